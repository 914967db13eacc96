"""Tied tensors under any of their names: transformers saves one, other tools another one or all of them."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyglance.engines.loading import load_pretrained

SEQ2SEQ = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
LLM = ("language_model.model.embed_tokens.weight", "lm_head.weight")
TIED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "florence2": (
        "Florence2ForConditionalGeneration",
        (*(f"model.language_model.{name}.weight" for name in SEQ2SEQ), "lm_head.weight"),
    ),
    "nllb": ("M2M100ForConditionalGeneration", (*(f"model.{name}.weight" for name in SEQ2SEQ), "lm_head.weight")),
    "marian": ("MarianMTModel", (*(f"model.{name}.weight" for name in SEQ2SEQ), "lm_head.weight")),
    "madlad": ("T5ForConditionalGeneration", (*(f"{name}.weight" for name in SEQ2SEQ), "lm_head.weight")),
    "paligemma": ("PaliGemmaForConditionalGeneration", LLM),
    "gemma3": ("Gemma3ForConditionalGeneration", LLM),
    "blip2": (
        "Blip2ForConditionalGeneration",
        ("language_model.model.decoder.embed_tokens.weight", "language_model.lm_head.weight"),
    ),
}
"""Kind of engine -> class of transformers, and names of the one table in a file."""


def rewrite(folder: Path, names: tuple[str, ...], held: Mapping[str, Tensor]) -> None:
    """Replace the tied tensors of a checkpoint."""
    state = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if name not in names}
    save_file({**state, **held}, folder / "model.safetensors", {"format": "pt"})


def subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1))


@pytest.mark.parametrize("kind", TIED)
def test_every_written_form_is_the_same_model(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make: Callable[[Path], Path] = getattr(tiny_checkpoints, kind)
    folder, (name, names) = make(tmp_path / kind), TIED[kind]
    model_class: Any = getattr(transformers, name)
    model = load_pretrained(model_class, folder)
    expected, num_parameters = model.state_dict(), sum(one.numel() for one in model.parameters())
    (table,) = (tensor for key, tensor in load_file(folder / "model.safetensors").items() if key in names)
    for form in subsets(names):
        rewrite(folder, names, {key: table.clone() for key in form})
        found = load_pretrained(model_class, folder)
        assert sum(one.numel() for one in found.parameters()) == num_parameters, form
        assert all(torch.equal(tensor, expected[key]) for key, tensor in found.state_dict().items()), form
    assert "ties" not in capsys.readouterr().err
    rewrite(folder, names, {key: table + (key == names[-1]) for key in names})
    found = load_pretrained(model_class, folder)
    assert torch.equal(found.get_output_embeddings().weight, table + 1)
    assert torch.equal(found.get_input_embeddings().weight, table)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "ties" in line)
    assert line.startswith(f"{folder}: ")
    assert line.endswith("which config.json ties; each is used as it is in the file")


def test_a_head_that_is_not_tied_is_no_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_pretrained(transformers.LlavaForConditionalGeneration, tiny_checkpoints.llava(tmp_path))
    assert "ties" not in capsys.readouterr().err
