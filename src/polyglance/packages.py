"""Optional packages, and the extras that install them."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["EXTRAS", "EXTRA_MODULES", "describe_missing"]

EXTRA_MODULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("torch", "transformers", "safetensors", "tokenizers", "fsspec", "PIL", "jinja2"),
        "parquet": ("pyarrow",),
        "plots": ("matplotlib",),
        "ray": ("ray",),
        "s3": ("s3fs",),
        "gcs": ("gcsfs",),
        "mt": ("ctranslate2", "sentencepiece", "sacremoses"),
        "search": ("faiss",),
        "track": ("trackio",),
        "wandb": ("wandb",),
        "tensorboard": ("tensorboard",),
        "segment": ("jieba", "pythainlp"),
        "segment-ja": ("sudachipy", "MeCab"),
        "segment-ko": ("mecab_ko",),
    }
)
"""Extra of pyproject.toml -> the modules that it installs."""

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "torch": "train",
        "transformers": "train",
        "tokenizers": "train",
        "safetensors": "train",
        "PIL": "train",
        "fsspec": "train",
        "jinja2": "train",
        "pyarrow": "parquet",
        "matplotlib": "plots",
    }
)
"""Top-level module -> extra of pyproject.toml. `train` also installs what the other extras named here install."""


def describe_missing(error: ModuleNotFoundError, verb: str, *, light: bool = False) -> str | None:
    """Return the message for a module that an extra would install; None for other modules.

    Args:
        verb: words of the verb that needed it (`study run`), or the name of a module or function (`polyglance.laws`).
        light: no other extra is needed, so that the message names the smallest one.
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    extra = EXTRAS[module] if light or verb.startswith(("law", "score", "results")) else "train"
    return f"{verb} needs {module}, which is not installed here: pip install 'polyglance[{extra}]'"
