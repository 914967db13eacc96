"""Captioners, translators and embedders on tiny random checkpoints."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_engines
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoProcessor, AutoTokenizer

from polyglance.engines import EngineConfig, Failure

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

SOURCES = ["a cat sits on the bank", "the dog", "a bank ### ( the river in a photo )", "money", "two the the cat"]
IMAGES = [tiny_engines.noise(0), b"no image", tiny_engines.noise(1, "JPEG"), tiny_engines.noise(2, "BMP")]
MADE: dict[str, Callable[[Path], Path]] = {
    "nllb": tiny_engines.nllb,
    "madlad": tiny_engines.madlad,
    "marian": tiny_engines.marian,
    "florence2": tiny_engines.florence2,
    "llava": tiny_engines.llava,
    "clip": tiny_engines.clip,
    "siglip": lambda folder: tiny_engines.clip(folder, "siglip"),
    "metaclip_2": lambda folder: tiny_engines.clip(folder, "metaclip_2"),
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoint folders by kind, each made once."""
    root, made = tmp_path_factory.mktemp("checkpoints"), {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = MADE[kind](root / f"tiny-{kind}")
        return made[kind]

    return get


def engine(kind: str, folder: Path, **settings: Any) -> EngineConfig:
    return EngineConfig(kind=kind, path=folder, max_new_tokens=8, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["nllb", "madlad", "marian"])
def test_translations_are_the_models_own(kind: str, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint(kind)
    model, words = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    words.src_lang = "eng_Latn"
    before = "<2de> " if kind == "madlad" else ""
    options = {"forced_bos_token_id": words.convert_tokens_to_ids("deu_Latn")} if kind == "nllb" else {}
    wanted = []
    for source in SOURCES:
        inputs = words([before + source], return_tensors="pt")
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            num_beams=3,
            num_return_sequences=2,
            do_sample=False,
            max_new_tokens=8,
            length_penalty=0.5,
            **options,
        )
        wanted.append([text.strip() for text in words.batch_decode(ids, skip_special_tokens=True)])
    translator = engine(kind, folder, batch_size=2, num_beams=3, length_penalty=0.5).translator()
    assert translator.translate(SOURCES, language="de") == [first for first, _ in wanted]
    assert translator.alternatives(SOURCES, language="de") == [second for _, second in wanted]
    assert len({first for first, _ in wanted}) > 2, "what goes in shows in what comes out"


@pytest.mark.parametrize("kind", ["nllb", "madlad", "marian"])
def test_converted_models_translate_alike(kind: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    converters = pytest.importorskip("ctranslate2.converters")
    folder = checkpoint(kind)
    files = [path.name for path in folder.iterdir() if path.suffix in (".json", ".spm") and path.stem != "config"]
    out = tmp_path / "converted"
    converters.TransformersConverter(str(folder), copy_files=files).convert(str(out))
    for beams in (1, 4):
        slow = engine(kind, folder, num_beams=beams).translator()
        fast = engine("ctranslate2", out, num_beams=beams).translator()
        assert fast.translate(SOURCES, language="de") == slow.translate(SOURCES, language="de")
        assert fast.alternatives(SOURCES, language="de") == slow.alternatives(SOURCES, language="de")
    assert fast.name == "converted"
    assert len(engine("ctranslate2", out, dtype="int8").translator().translate(SOURCES, language="de")) == len(SOURCES)
    with pytest.raises(ValueError, match=r"its tokenizer has no language|it translates into de, not into fr"):
        fast.translate(SOURCES, language="fr")
    for device in ("gpu", "cuda:x", "cuda:99"):
        with pytest.raises(ValueError, match="converted: "):
            engine("ctranslate2", out, device=device).translator()
    (out / "model.bin").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="converted: "):
        engine("ctranslate2", out).translator()


def test_languages_that_a_checkpoint_does_not_know(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its tokenizer has no language fra_Latn"):
        engine("nllb", checkpoint("nllb")).translator().translate(["a cat"], language="fr")
    with pytest.raises(ValueError, match="its tokenizer has no language <2ru>"):
        engine("madlad", checkpoint("madlad")).translator().translate(["a cat"], language="ru")
    with pytest.raises(ValueError, match="it translates into de, not into zh"):
        engine("marian", checkpoint("marian")).translator().translate(["a cat"], language="zh")
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        engine("nllb", checkpoint("nllb")).translator().translate(["a cat"], language="xx")
    several = tiny_engines.marian(tmp_path / "several", target=None, tokens=(">>deu<<", ">>cmn_Hans<<"))
    translator = engine("marian", several).translator()
    assert translator.translate(SOURCES, language="de") != translator.translate(SOURCES, language="zh")
    with pytest.raises(ValueError, match="its tokenizer has no language >>spa<< or >>es<<"):
        translator.translate(["a cat"], language="es")


def test_texts_that_are_too_long_fail_alone(checkpoint: Callable[[str], Path]) -> None:
    translator = engine("nllb", checkpoint("nllb")).translator()
    good, failed, other = translator.translate(["the dog", "a cat " * 200, "money"], language="de")
    assert failed == Failure("text longer than the translator reads")
    assert [good, other] == translator.translate(["the dog", "money"], language="de")
    assert translator.translate([], language="de") == []


@pytest.mark.parametrize("kind", ["florence2", "llava"])
def test_captions(kind: str, checkpoint: Callable[[str], Path]) -> None:
    captioner = engine(kind, checkpoint(kind), batch_size=2).captioner()
    together = captioner.caption(IMAGES, style="paragraph")
    assert together[1] == Failure("image: not an image")
    assert together == [captioner.caption([image], style="paragraph")[0] for image in IMAGES]
    written = [text for text in together if isinstance(text, str)]
    assert len(set(written)) == 3
    assert captioner.caption(IMAGES, style="short") != together, "each style is asked for in its own words"
    assert captioner.name == f"tiny-{kind}"


def test_florence_is_asked_as_it_was_trained(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("florence2")
    captioner: Any = engine("florence2", folder).captioner()
    asked = captioner._processor._construct_prompts(["<MORE_DETAILED_CAPTION>"])
    assert asked == ["Describe with a paragraph what is shown in the image."]


@pytest.mark.parametrize("kind", ["clip", "siglip", "metaclip_2"])
def test_vectors_are_the_models_own(kind: str, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint(kind)
    embedder = engine("clip", folder, batch_size=2).embedder()
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder, backend="pil")
    images = [image for image in IMAGES if image != b"no image"]
    for vectors, wanted in (
        (embedder.embed_texts(SOURCES), [_text_vector(model, processor, text) for text in SOURCES]),
        (embedder.embed_images(images), [_image_vector(model, processor, image) for image in images]),
    ):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(wanted), embedder.dim)
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert embedder.embed_texts(["a cat " * 100]).shape == (1, embedder.dim), "cut to what the tower reads"
    assert embedder.embed_images([]).shape == (0, embedder.dim)
    with pytest.raises(ValueError, match="image"):
        embedder.embed_images([b"no image"])


def _text_vector(model: Any, processor: Any, text: str) -> Any:
    padding = "max_length" if model.config.model_type == "siglip" else False
    inputs = processor.tokenizer([text], padding=padding, max_length=20, return_tensors="pt")
    with torch.no_grad():
        return _unit(model.get_text_features(input_ids=inputs["input_ids"]))


def _image_vector(model: Any, processor: Any, image: bytes) -> Any:
    from polyglance.images import to_rgb

    with torch.no_grad():
        return _unit(model.get_image_features(**processor.image_processor(to_rgb(image), return_tensors="pt")))


def _unit(output: Any) -> Any:
    vector = output.pooler_output[0].numpy()
    return vector / np.linalg.norm(vector)


def test_versions_are_of_the_weights(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    original = engine("nllb", checkpoint("nllb")).translator()
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint("nllb"), copy)
    same = engine("nllb", copy).translator()
    assert (same.name, same.version) == ("copy", original.version)
    model = AutoModelForSeq2SeqLM.from_pretrained(copy)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    model.save_pretrained(copy)
    assert engine("nllb", copy).translator().version != original.version
    assert len(original.version) == 8


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("nllb", ["model.safetensors"], "no weights in it"),
        ("nllb", ["config.json"], "no model_type"),
        ("nllb", ["tokenizer.json", "tokenizer_config.json"], "no tokenizer in it"),
        ("florence2", ["processor_config.json"], "its processor cannot be loaded|it has no image processor"),
        ("llava", ["chat_template.jinja"], "it has no chat template"),
        ("clip", ["tokenizer.json", "tokenizer_config.json"], "no tokenizer in it"),
    ],
)
def test_folders_that_lack_something(
    kind: str, spoil: Sequence[str], message: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoint(kind), tmp_path / "spoilt")
    for name in spoil:
        (tmp_path / "spoilt" / name).unlink()
    config = engine(kind, tmp_path / "spoilt")
    make = {"nllb": config.translator, "clip": config.embedder}.get(kind, config.captioner)
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_folders_and_devices_that_do_not_fit(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a t5 model; nllb is m2m_100"):
        engine("nllb", checkpoint("madlad")).translator()
    with pytest.raises(ValueError, match="no such folder"):
        engine("nllb", tmp_path / "nowhere").translator()
    for device, message in (("gpu", "expected cpu, cuda or cuda:N"), ("cuda:99", "GPUs here")):
        with pytest.raises(ValueError, match=message):
            engine("nllb", checkpoint("nllb"), device=device).translator()
    with pytest.raises(ValueError, match="florence2"):
        engine("clip", checkpoint("florence2")).embedder()
