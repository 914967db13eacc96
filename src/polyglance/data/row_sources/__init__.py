"""Forms of a user's images and texts, each as rows of named cells; `open_rows` finds the form.

    a table                        `table_files`
    folders with metadata.csv      `table_files`      Hugging Face's imagefolder
    COCO, Karpathy, XM3600, ...    `published_texts`
    a saved or pushed data set     `saved_datasets`   Hugging Face's Arrow and Parquet
    images with texts beside them  `texts_beside`     in a folder, in tars (WebDataset), in a zip

To add one, write a subclass of `RowSource` and name it in `open_rows`.
"""

from polyglance.data.row_sources.open import open_rows
from polyglance.data.row_sources.row_source import RowSource

__all__ = ["RowSource", "open_rows"]
