"""Checkpoint folders: digests of their files, and errors in one line where something is missing or broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from polyglance.engines import (
    EngineConfig,
    ModelConfig,
    Picture,
    devices,
    open_captioner,
    open_embedder,
    open_model,
    open_translator,
)
from polyglance.engines.checkpoints import Checkpoint
from polyglance.engines.devices import choose_compute, choose_device, choose_dtype
from polyglance.engines.folders import folder_digest, weights_version


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("nllb", ["model.safetensors"], "no weights"),
        ("nllb", ["config.json"], "config.json: no such file"),
        ("nllb", ["tokenizer.json", "tokenizer_config.json"], "no tokenizer in it"),
        ("florence2", ["processor_config.json"], "its processor cannot be loaded|: has no image processor"),
        ("gemma3", ["chat_template.jinja"], "has no chat template; expected the folder of a chat model"),
        ("clip", ["tokenizer.json", "tokenizer_config.json"], "no tokenizer in it"),
    ],
)
def test_folders_that_lack_a_file(
    kind: str, spoil: list[str], message: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint(kind), tmp_path / "spoilt"))
    for name in spoil:
        (folder / name).unlink()
    with pytest.raises(ValueError, match=message) as caught:
        _open(kind, folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["pickle", "missing tensor", "cut short", "no model_type"])
def test_broken_folders(fault: str, checkpoint: Callable[[str], Path], pictures: list[Picture], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("gemma3"), tmp_path / "broken"))
    weights = folder / "model.safetensors"
    match fault:
        case "pickle":
            weights.unlink()
            torch.save({}, folder / "pytorch_model.bin")
            message = "a pickle can run code"
        case "missing tensor":
            state = load_file(weights)
            del state[next(name for name in state if name.endswith("mlp.up_proj.weight"))]
            save_file(state, weights, {"format": "pt"})
            message = r"1 tensor\(s\) are missing: .*mlp.up_proj.weight"
        case "cut short":
            weights.write_bytes(weights.read_bytes()[:-8])
            message = r"model\.safetensors: truncated"
        case "no model_type":
            (folder / "config.json").write_text("[1]")
            message = "config.json: no model_type; expected a model saved by transformers"
    with pytest.raises(ValueError, match=message) as recipe:
        _open("gemma3", folder)
    with pytest.raises(ValueError, match=message) as evaluation:
        open_model(ModelConfig(model=str(folder))).write_captions(pictures[:1], "en")
    assert str(recipe.value) == str(evaluation.value)
    assert "\n" not in str(recipe.value)


def test_a_pickle_that_is_cut_short_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    """torch raises errors of many kinds for it, also without a message."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert Checkpoint(tmp_path, unsafe_pickle=True)["weight"].tolist() == [0, 0]
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a pickle of tensors \(.") as error:
            Checkpoint(tmp_path, unsafe_pickle=True)
        assert "\n" not in str(error.value), size


def test_folders_and_devices_that_do_not_fit(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a t5 model; nllb is m2m_100"):
        open_translator(EngineConfig(kind="nllb", path=checkpoint("madlad")))
    with pytest.raises(ValueError, match="no such folder"):
        _open("nllb", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a florence2 model does not embed images and texts"):
        open_embedder(EngineConfig(kind="clip", path=checkpoint("florence2")))
    for device, message in (("gpu", "expected auto, cpu, cuda or cuda:N"), ("cuda:99", "GPUs here")):
        with pytest.raises(ValueError, match=message):
            open_translator(EngineConfig(kind="nllb", path=checkpoint("nllb"), device=device))
        with pytest.raises(ValueError, match=message):
            open_model(ModelConfig(model=str(checkpoint("nllb")), device=device))


def _open(kind: str, folder: Path) -> object:
    if kind == "nllb":
        return open_translator(EngineConfig(kind="nllb", path=folder))
    if kind == "clip":
        return open_embedder(EngineConfig(kind="clip", path=folder))
    return open_captioner(EngineConfig(kind="florence2" if kind == "florence2" else "llava", path=folder))


def test_digests_change_with_the_files(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Weights change both digests, a vocabulary only that of the folder, which facts of predictions hold."""
    original = checkpoint("nllb")
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    translator = open_translator(EngineConfig(kind="nllb", path=copy))
    assert (translator.name, translator.version) == ("copy", weights_version(original))
    assert EngineConfig(kind="nllb", path=copy).weights == translator.version
    assert folder_digest(copy) == folder_digest(original)
    (copy / "notes.md").write_text("no part of the model")
    assert folder_digest(copy) == folder_digest(original)
    (copy / "tokenizer_config.json").write_text("{}")
    assert folder_digest(copy) != folder_digest(original)
    assert weights_version(copy) == weights_version(original)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert weights_version(copy) != weights_version(original)
    assert len(weights_version(copy)) == 8


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"text.jpg: not an image that can be read"):
        Picture.read(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"none.jpg: No such file"):
        Picture.read(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="not an image"):
        Picture.read(b"no image")


def test_auto_is_a_gpu_in_bfloat16_or_a_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_dtype("auto", "cpu") == "float32"
    for device, dtype, has_bf16, expected in (
        ("cuda:1", "auto", True, "bfloat16"),
        ("cuda", "auto", False, "float16"),
        ("cuda", "float32", True, "float32"),
        ("cpu", "bfloat16", True, "bfloat16"),
    ):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_bf16, **options: has)
        assert choose_dtype(dtype, device) == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "check_device", lambda device: None)
    assert choose_device("auto") == "cuda"
    assert choose_compute(ModelConfig(model="x")) == ModelConfig(model="x", device="cuda", dtype="bfloat16")


def test_a_model_under_evaluation_records_the_precision_that_it_ran_in(checkpoint: Callable[[str], Path]) -> None:
    model = open_model(ModelConfig(model=str(checkpoint("nllb")), device="cpu"))
    assert model.facts("translation", "de")["dtype"] == "float32"
