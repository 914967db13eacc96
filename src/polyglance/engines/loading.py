"""Checked loading of models, configurations and tokenizers from folders, with errors in one line.

A folder is not trusted. Its config.json is read with limits on size and depth before transformers sees it; code,
pickles and kernels from the hub are refused; files that the folder lists with digests are compared with these.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging

from polyglance.error_text import first_line
from polyglance.files import checked_folder, read_json

__all__ = ["check_model_config", "load_pretrained", "loading", "read_model_config", "refuse_misfits", "refuse_missing"]

_MAX_CONFIG_BYTES = 2**24
_ATTENTION = frozenset({"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"})
"""Allowed implementations of attention. Other names are kernels, which transformers would download."""
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_PARTS = ("vision_config", "encoder_config", "decoder_config", "text_config")
_MAX_LAYERS, _MAX_NUMBER = 1_000, 2**40


def read_model_config(folder: str | Path) -> dict[str, Any]:
    """Read config.json of a model's folder.

    Raises:
        ValueError: no such file, not JSON, not an object, or a value that is out of bounds: one line.
    """
    path = Path(folder) / "config.json"
    values = read_json(path, max_bytes=_MAX_CONFIG_BYTES)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object with the model's configuration, got {type(values).__name__}")
    check_model_config(values, str(path))
    return values


def check_model_config(values: Mapping[str, Any], where: str) -> None:
    """Refuse values that would make transformers download code or build an excessively large model.

    Raises:
        ValueError: names the key.
    """
    for key, value in values.items():
        if key in _ATTENTION_KEYS and not _is_known_attention(value):
            raise ValueError(f"{where}: {key} is {value!r}; expected one of {', '.join(sorted(_ATTENTION))}")
        if key in _PARTS and value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{where}: {key} is {value!r}; expected an object")
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if isinstance(number, int) and not isinstance(number, bool):
                limit = _MAX_LAYERS if "layers" in key or key in ("depth", "depths") else _MAX_NUMBER
                if abs(number) > limit:
                    raise ValueError(f"{where}: {key} is {number}; expected at most {limit}")
        if isinstance(value, Mapping):
            check_model_config(value, f"{where}: {key}")


def _is_known_attention(value: Any) -> bool:
    if isinstance(value, Mapping):  # one for each component of the model
        return all(_is_known_attention(one) for one in value.values())
    return value is None or value in _ATTENTION


@contextmanager
def loading(folder: str | Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises about a folder's content into a `ValueError` of one line; at the same time compare
    the files that the folder lists with their digests.

    Args:
        what: what is loaded, for the message: `model`.
    """
    logger = logging.get_logger("transformers")
    level = logger.level
    with checked_folder(Path(folder)):
        logger.setLevel(logging.ERROR)  # its tables of keys that do not fit are in the error, in one line
        try:
            yield
        except (MemoryError, Exception) as error:  # noqa: BLE001 - transformers raises anything at a hostile file
            raise ValueError(f"{folder}: its {what} cannot be loaded ({first_line(error)})") from None
        finally:
            logger.setLevel(level)


def load_pretrained(cls: Any, folder: str | Path, **options: Any) -> Any:
    """Load a model's folder as a class of transformers, from safetensors files of this machine alone.

    Raises:
        ValueError: a configuration or weights that are missing, damaged or do not fit each other: one line.
    """
    read_model_config(folder)
    with loading(folder, "model"):
        model, report = cls.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the library's own refusal names none of them
            **options,
        )
    misfits = {name: (tuple(found), tuple(wanted)) for name, found, wanted in report["mismatched_keys"]}
    refuse_misfits(f"{folder}: its weights do not fit config.json", misfits)
    refuse_missing(folder, report["missing_keys"])
    if untied := _find_untied(model):
        print(f"{folder}: {untied}, which config.json ties; each is used as it is in the file", file=sys.stderr)
    return model


def refuse_misfits(what: str, shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Refuse weights that have another shape than the model's.

    Args:
        what: beginning of the message.
        shapes: name -> shape of the weight that is there, and that of the model's.

    Raises:
        ValueError: gives the first of them by name with both shapes, and the number of others.
    """
    names = sorted(name for name, (found, wanted) in shapes.items() if found != wanted)
    if names:
        found, wanted = shapes[names[0]]
        others = f"; and {len(names) - 1} more" if len(names) > 1 else ""
        raise ValueError(f"{what}: {names[0]} has the shape {found}, the model's has {wanted}{others}")


def refuse_missing(folder: str | Path, names: Collection[str]) -> None:
    """Refuse a folder that lacks weights of its model.

    Raises:
        ValueError: gives their number and some of them.
    """
    if names:
        raise ValueError(f"{folder}: {len(names)} tensor(s) are missing: {', '.join(sorted(names)[:5])}")


def _find_untied(model: Any) -> str:
    """Describe a loaded model whose head differs from its embedding although its configuration ties them; empty if they
    are equal. A file may hold any or all of the names of tied tensors: transformers loads each, and ties equal ones."""
    head = model.get_output_embeddings()
    if head is None or not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return ""
    return "" if head.weight is model.get_input_embeddings().weight else "its head is not its embedding"
