"""A model's folder in a fresh process, in pipelines, and on the hub (its cache on this machine)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import assembled_folder

from polyglance.cli import main
from polyglance.files import file_sha256
from polyglance.model import Polyglance, PolyglanceCaptioner
from polyglance.model.config import GenerateConfig
from polyglance.model.processor import Processor, list_images

PROMPT = "the dog runs on the mat"


@pytest.fixture(scope="module")
def folder(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled_folder(sources, tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def image(picture: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture.save(path := tmp_path_factory.mktemp("image") / "a.png")
    return path


@pytest.mark.parametrize("start", ["trusted", "imported"])
def test_fresh_process(start: str, folder: Path, image: Path, tmp_path: Path) -> None:
    """Auto classes and a pipeline, with and without an import of this package; what they save loads again."""
    program = """
import sys, json, transformers
from transformers import *
folder, image, again, start = sys.argv[1:]
trusted = {"trust_remote_code": True} if start == "trusted" else {}
if start == "imported":
    from polyglance.model import Polyglance
classes = AutoModel, AutoModelForSeq2SeqLM, AutoModelForImageTextToText
models = [cls.from_pretrained(folder, **trusted) for cls in classes]
processor = AutoProcessor.from_pretrained(folder, **trusted)
inputs = processor(images=image, text="the dog runs on the mat")
ids = models[0].eval().generate(**inputs, max_new_tokens=5)
pipe = pipeline("image-text-to-text", model=folder, **trusted)
(piped,) = pipe(images=image, text="the dog runs on the mat", max_new_tokens=5, return_full_text=False)
models[0].save_pretrained(again)
processor.save_pretrained(again)
print(json.dumps({"types": [type(x).__name__ for x in (*models, processor)], "ids": ids.tolist(),
    "text": processor.batch_decode(ids, skip_special_tokens=True)[0].strip(), "piped": piped["generated_text"],
    "config": type(AutoConfig.from_pretrained(folder, **trusted)).__name__}))
"""
    again = tmp_path / "again"
    ran = subprocess.run(
        [sys.executable, "-c", program, folder, image, again, start],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    shown = json.loads(ran.stdout.splitlines()[-1])
    assert shown["types"] == ["Polyglance"] * 3 + ["Processor"]
    assert shown["config"] == "PolyglanceConfig"
    assert shown["piped"].strip() == shown["text"]
    model, processor = Polyglance.from_pretrained(folder).eval(), Processor.load(folder)
    assert model.generate(**processor(images=image, text=PROMPT), max_new_tokens=5).tolist() == shown["ids"]
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    for name in ("modeling_polyglance.py", "processor_config.json", "encoder_tokenizer.json", "decoder_tokenizer.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
    assert "auto_map" in json.loads((again / "config.json").read_text())


def test_the_processor_takes_every_kind_of_image(folder: Path, image: Path, picture: Image.Image) -> None:
    processor = Processor.from_pretrained(folder)
    expected = processor.images([image])
    pixels = np.asarray(picture)
    for given in (str(image), picture, pixels, torch.from_numpy(pixels.copy()), [image], [picture], pixels[None]):
        assert torch.equal(processor(images=given)["pixel_values"], expected)
    batch = processor(images=[image, picture], text=["a cat", PROMPT], text_target=["the", "a mat sits"], prefix="the")
    assert batch["labels"].shape[0] == 2
    assert (batch["labels"] == -100).any()
    assert batch["decoder_input_ids"].tolist() == [processor.start_ids("the")] * 2
    kept = batch["labels"][1][batch["labels"][1] != -100]
    assert kept.tolist() == [*processor.start_ids("a mat sits")[1:], 1]
    assert Polyglance.from_pretrained(folder)(**{k: v for k, v in batch.items() if "decoder" not in k}).loss > 0
    for no_image, message in ((5, "int"), ([image, None], "NoneType"), (b"x", "bytes"), ({"a": 1}, "dict")):
        with pytest.raises(ValueError, match=f"a {message} is not an image"):
            list_images(no_image)
    for wrong, message in (
        (pixels.astype(np.float32), "expected uint8 pixels"),
        (pixels[..., :2], "expected uint8 pixels"),
        ("none.png", "none.png: No such file"),
    ):
        with pytest.raises(ValueError, match=message):
            processor(images=wrong, text="a cat")
    with pytest.raises(ValueError, match="one of each per row"):
        processor(images=[image, image], text="a cat")
    with pytest.raises(TypeError, match="no argument 'image'; did you mean 'images'"):
        processor(image=image)


def test_the_captioner_takes_one_or_several_of_each(folder: Path, image: Path, picture: Image.Image) -> None:
    captioner, config = PolyglanceCaptioner.load(folder), GenerateConfig(max_new_tokens=4)
    (alone,) = captioner.caption(str(image), "es", config=config)
    assert (alone.image, alone.language) == (str(image), "es")
    mixed = captioner.caption([picture, np.asarray(picture), image, picture], ["es"], config=config)
    assert [one.image for one in mixed] == ["image 0", "image 1", str(image), "image 3"]
    assert {one.text for one in mixed} == {alone.text}
    (translated,) = captioner.translate(picture, "the dog", "de", config=config)
    assert translated.source == "the dog"
    for languages, message in (("es,zh", "unknown language 'es,zh'"), ([], "give a language")):
        with pytest.raises(ValueError, match=message):
            captioner.caption(image, languages)
    with pytest.raises(ValueError, match="1 images and 2 texts"):
        captioner.translate(image, ["a", "b"], "de")


def test_folders_written_before_still_load(folder: Path, image: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    for name in ("processor_class", "auto_map", "target_end_id"):
        del settings[name]
    (tmp_path / "processor_config.json").unlink()
    (tmp_path / "modeling_polyglance.py").unlink()
    (tmp_path / "processor.json").write_text(json.dumps(settings))
    config = GenerateConfig(max_new_tokens=4)
    before, now = (PolyglanceCaptioner.load(each).caption(image, "es", config=config) for each in (tmp_path, folder))
    assert before == now


def test_names_on_the_hub(
    folder: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`owner/name@COMMIT`, from the hub's cache, without a connection. The cache names large files by their SHA-256."""
    commit = "a" * 40
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for file in folder.iterdir():
        blob = cache / "blobs" / file_sha256(file)
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", raise_connection_error)
    options = ["--lang", "es", "--max-new-tokens", "4"]
    main(["caption", str(image), "--model", f"owner/name@{commit}", *options])
    main(["caption", str(image), "--model", str(folder), *options])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    for name, message in ((f"owner/other@{commit}", "not available on the hub"), ("owner/name", "NAME@COMMIT")):
        with pytest.raises(SystemExit):
            main(["caption", str(image), "--model", name, *options])
        assert message in capsys.readouterr().err
    assert Processor.from_pretrained("owner/name", revision=commit).config == Processor.load(folder).config

    weights = (snapshot / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(SystemExit):
        main(["caption", str(image), "--model", f"owner/name@{commit}", *options])
    assert "model.safetensors: differs from what the hub states" in capsys.readouterr().err


def raise_connection_error(*_: object, **__: object) -> None:
    raise ConnectionError("no network")


def test_the_snippet_in_the_docs_runs(
    folder: Path,
    picture: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "model.md").read_text()
    code = text.split("## With transformers", 1)[1].split("```python\n", 1)[1].split("```", 1)[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(folder)
    picture.save("a.jpg")
    values: dict[str, object] = {}
    exec(compile(code, "docs/model.md", "exec"), values)
    assert "imagen" in capsys.readouterr().out
    assert "pipe" in values
