"""Descriptions of rows that a model makes in batches: they need no open model, and are JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.evaluate.row_files import has_joined_rows

__all__ = ["NAMED_ROWS", "ROW_VERSIONS", "DescribedRows"]

ROW_VERSIONS = ("polyglance", "torch", "transformers", "tokenizers")
"""Libraries whose versions are noted with rows."""
NAMED_ROWS = "rows.jsonl"
"""Name of the file of rows that are not predictions."""


@dataclass(frozen=True, kw_only=True)
class DescribedRows:
    """Rows that a model makes: where they are, and everything that they depend on."""

    name: str
    """Name among the rows of one evaluation."""
    folder: str
    """Folder of the rows."""
    model: str
    """Name of the model."""
    facts: Mapping[str, Any]
    """Everything about the model that moves its answers."""
    fingerprint: str
    """Changes with facts, settings and examples."""
    versions: Mapping[str, str]
    """Library -> version, where the model was opened."""
    num_rows: int
    """Number of rows when all are made."""

    def is_done(self) -> bool:
        """Tell whether the folder holds all rows. Its name ends with the fingerprint."""
        return has_joined_rows(Path(self.folder), NAMED_ROWS)
