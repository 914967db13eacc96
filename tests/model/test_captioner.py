import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_models import assembled_folder, tiny_model

from polyglance.cli import main
from polyglance.engines.folders import find_folder
from polyglance.mixture.tokenizer import train_tokenizer
from polyglance.model import Polyglance, PolyglanceCaptioner
from polyglance.model.card import make_card
from polyglance.model.config import GenerateConfig
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor

CONFIG = GenerateConfig(max_new_tokens=6, batch_size=3)


@pytest.fixture(scope="module")
def folder(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled_folder(sources, tmp_path_factory.mktemp("captioner") / "model")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One file of each kind of pixels: they must all be read as RGB."""
    out = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    for mode in ("RGB", "RGBA", "L", "P", "CMYK"):
        suffix = "jpg" if mode == "CMYK" else "png"
        Image.fromarray(noise[..., :3]).convert(mode).save(out / f"{mode}.{suffix}")
    return sorted(out.iterdir())


def test_five_lines(folder: Path, images: list[Path]) -> None:
    captioner = PolyglanceCaptioner.load(folder)
    results = captioner.caption(images, ["es", "zh"], config=CONFIG)
    assert [(r.image, r.language) for r in results] == [(str(i), code) for i in images for code in ("es", "zh")]
    assert all(r.text is not None and r.error is None for r in results)
    assert results[0].prefix == "La imagen muestra"


def test_batching_changes_nothing(folder: Path, images: list[Path]) -> None:
    captioner = PolyglanceCaptioner.load(folder)
    sources = ["the dog runs", "cat", "eine Katze auf der Matte the mat", "a", "the mat sits"]
    together = captioner.translate(images, sources, ["de", "zh"], config=CONFIG)
    assert [(r.source, r.language) for r in together] == [(s, code) for s in sources for code in ("de", "zh")]
    for result in together:
        (alone,) = captioner.translate([result.image], [result.source or ""], [result.language], config=CONFIG)
        assert alone == result
    assert len({result.text for result in together}) > 1, "or a mix-up would not show"


def test_bad_images_are_reported_where_they_stand(folder: Path, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    results = PolyglanceCaptioner.load(folder).caption(
        [tmp_path / "broken.png", images[0], tmp_path / "none.png"], ["en"], config=CONFIG
    )
    assert "broken.png: not an image" in (results[0].error or "")
    assert results[1].text is not None
    assert "none.png: No such file" in (results[2].error or "")


def test_an_empty_name_is_no_folder() -> None:
    with pytest.raises(ValueError, match="expected a path, got ''"):
        find_folder("")


def test_folders_and_addresses_are_told_from_missing_files(folder: Path, tmp_path: Path) -> None:
    results = PolyglanceCaptioner.load(folder).caption([tmp_path, Path("https://a.org/b.png")], ["en"], config=CONFIG)
    assert [result.error for result in results] == [
        f"{tmp_path}: a folder; give the image files that are in it",
        "https:/a.org/b.png: an address; only files are read: download it, and give the file",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_penalty": float("nan")}, "length_penalty is nan; expected a finite number"),
        ({"beams": 1, "length_penalty": 2.0}, "`length_penalty` has no effect with greedy decoding"),
        ({"beams": 1, "early_stopping": False}, "`early_stopping` has no effect with greedy decoding"),
    ],
)
def test_options_of_decoding_have_an_effect(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerateConfig(**options)


def test_what_cannot_be_asked(folder: Path, images: list[Path]) -> None:
    captioner = PolyglanceCaptioner.load(folder)
    with pytest.raises(ValueError, match="unknown language 'eo'"):
        captioner.caption(images, ["eo"], prefix="none")
    with pytest.raises(ValueError, match=r"has \d+ tokens; the encoder takes \d+ beside an image of 224 pixels"):
        captioner.translate(images[:1], ["the dog runs " * 300], ["de"])


def test_vocabularies_must_fit(folder: Path) -> None:
    processor = Processor.load(folder)
    config = tiny_model("bart").config
    entries = processor.decoder_tokenizer.get_vocab_size()
    config.encoder_config.vocab_size, config.decoder_config.vocab_size = 1000, entries
    processor.check_vocabularies(config)
    config.decoder_config.vocab_size -= 1
    with pytest.raises(ValueError, match=f"vocabulary mismatch: the decoder's tokenizer has {entries} entries"):
        processor.check_vocabularies(config)


@pytest.mark.parametrize(
    "fault", ["nan", "truncated", "no processor", "other kind", "missing tensor", "other width", "widths"]
)
def test_bad_folders(fault: str, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    name = "encoder.layers.0.fc1.weight"
    match fault:
        case "nan":
            state[name][0, 0] = float("nan")
            save_file(state, weights, {"format": "pt"})
            message = f"{weights}.*{name}.*not finite"
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-8])
            message = f"{weights}: truncated"
        case "no processor":
            (tmp_path / "processor_config.json").unlink()
            message = "without its processor"
        case "other kind":
            (tmp_path / "config.json").write_text(json.dumps({"model_type": "bart"}))
            message = "a model of type 'bart'"
        case "missing tensor":
            del state[name]
            save_file(state, weights, {"format": "pt"})
            message = f"missing: {name}"
        case "other width":  # the checkpoint's first weight by name, and the number of others with it
            del state[name]
            state |= {
                name: torch.zeros(3, 5),
                "encoder.layers.0.fc1.bias": torch.zeros(7),
                "vision_tower.extra": torch.zeros(2),
            }
            save_file(state, weights, {"format": "pt"})
            message = re.escape("encoder.layers.0.fc1.bias has the shape (7,), the model's has (64,); and 1 more")
        case "widths":
            config = json.loads((tmp_path / "config.json").read_text())
            config["encoder_config"]["d_model"] *= 2
            (tmp_path / "config.json").write_text(json.dumps(config))
            message = "the encoder is 64 wide.*the decoder reads states of width 32"
    with pytest.raises(ValueError, match=message) as error:
        PolyglanceCaptioner.load(tmp_path)
    assert "\n" not in str(error.value)
    if fault in ("missing tensor", "other width", "widths"):  # and no card counts another model than the weights'
        with pytest.raises(ValueError, match=message) as error:
            make_card(str(tmp_path), image_size=64)
        assert "\n" not in str(error.value)


def test_commands(folder: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", str(folder), "--max-new-tokens", "5"]
    main(["caption", *map(str, images[:2]), "--lang", "es,zh", "--prefix", "none", *options])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["language"] for line in lines] == ["es", "zh", "es", "zh"]
    main(["translate", "--image", str(images[0]), "--lang", "de", "the dog", *options])
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["source"] == "the dog"
    with pytest.raises(SystemExit):
        main(["caption", str(tmp_path / "none.png"), *options])
    shown = capsys.readouterr()
    assert "none.png" in json.loads(shown.out)["error"]
    assert shown.err.count("\n") == 1


def test_a_caption_in_another_language_is_named(
    folder: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The prefix is in the language that was asked for, whatever the model writes after it."""

    def write(
        self: PolyglanceCaptioner, prompts: list[str], image_features: object, *, prefix: str, config: GenerateConfig
    ) -> list[str]:
        return [f"{prefix} a brown dog is running over the grass" for _ in prompts]

    monkeypatch.setattr(PolyglanceCaptioner, "write", write)
    main(["caption", str(images[0]), "--lang", "fr,en,zh", "--model", str(folder)])
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line.get("other_language") for line in lines] == ["en", None, "en"]
    assert shown.err == "2 of 3 texts are in another language: en instead of fr (1), en instead of zh (1)\n"
    prefix = "La photo montre une personne dans la rue avec un grand parapluie rouge et un petit chien et aussi"
    main(["caption", str(images[0]), "--lang", "fr", "--prefix", prefix, "--model", str(folder)])
    assert json.loads(capsys.readouterr().out)["other_language"] == "en"


def test_one_tokenizer_for_both_sides(images: list[Path], tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["What does the image describe?", "a red circle"], vocab_size=60)
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(width=32, max_tokens=64).build(tokenizer.get_vocab_size()))
    model.save_pretrained(tmp_path)
    Processor.for_model(model.config, tokenizer).save(tmp_path)
    captioner = PolyglanceCaptioner.load(tmp_path)
    ids = captioner.processor.prompt_ids("a red circle")
    assert ids == [*tokenizer.encode("a red circle").ids, 1]
    assert captioner.processor.start_ids("a red") == [2, *tokenizer.encode("a red").ids]
    (result,) = captioner.caption(images[:1], ["en"], prefix="a red", config=CONFIG)
    assert (result.text or "").startswith("a red")


def test_a_published_checkpoint_captions_once_it_has_its_tokenizers(
    folder: Path, sources: tuple[Path, Path], images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, convert = tmp_path / "published", ["model", "convert", "--out"]
    main([*convert, str(published), "--to-published", str(folder)])
    back = ["--from-published", str(published)]
    main([*convert, str(tmp_path / "bare"), *back])
    assert "no tokenizers: give --florence and --gemma" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*convert, str(tmp_path / "half"), *back, "--florence", str(sources[0])])
    assert "give both" in capsys.readouterr().err
    main([*convert, str(tmp_path / "whole"), *back, "--florence", str(sources[0]), "--gemma", str(sources[1])])
    for model in (folder, tmp_path / "whole"):
        main(["caption", str(images[0]), "--model", str(model), "--lang", "en,zh", "--max-new-tokens", "4"])
    first, *_, last = (lines := capsys.readouterr().out.splitlines())
    assert json.loads(first)["text"]
    assert lines[:2] == lines[2:]
    assert json.loads(last)["language"] == "zh"
