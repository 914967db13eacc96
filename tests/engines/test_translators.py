"""Translations for recipes by tiny random checkpoints: as the library's, by ctranslate2 alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from polyglance.engines import EngineConfig, Failure, open_translator, translators

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

SOURCES = ["a cat sits on the bank", "the dog", "a bank ### ( the river in a photo )", "money", "two the the cat"]


def translator(kind: Any, folder: Path, **settings: Any) -> Any:
    return open_translator(EngineConfig(kind=kind, path=folder, max_new_tokens=8, **settings))


@pytest.mark.parametrize("kind", ["nllb", "madlad", "marian"])
def test_translations_are_the_librarys(
    kind: str, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    engine = translator(kind, folder, batch_size=2, num_beams=3, length_penalty=0.5)
    assert engine.translate(SOURCES, language="de") == [first for first, _ in wanted]
    assert engine.alternatives(SOURCES, language="de") == [second for _, second in wanted]
    assert len({first for first, _ in wanted}) > 2, "what goes in shows in what comes out"
    monkeypatch.setattr(translators, "_find_length_multiple", lambda device: 16)  # as on a GPU
    assert engine.encode(SOURCES[:2])["input_ids"].shape[1] in (16, 32)
    assert engine.translate(SOURCES, language="de") == [first for first, _ in wanted]


@pytest.mark.parametrize("kind", ["nllb", "madlad", "marian"])
def test_converted_models_translate_alike(kind: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    converters = pytest.importorskip("ctranslate2.converters")
    folder, out = checkpoint(kind), tmp_path / "converted"
    files = [path.name for path in folder.iterdir() if path.suffix in (".json", ".spm") and path.stem != "config"]
    converters.TransformersConverter(str(folder), copy_files=files).convert(str(out))
    for beams in (1, 4):
        slow, fast = translator(kind, folder, num_beams=beams), translator("ctranslate2", out, num_beams=beams)
        assert fast.translate(SOURCES, language="de") == slow.translate(SOURCES, language="de")
        assert fast.alternatives(SOURCES, language="de") == slow.alternatives(SOURCES, language="de")
    assert fast.name == "converted"
    assert len(translator("ctranslate2", out, dtype="int8").translate(SOURCES, language="de")) == len(SOURCES)
    with pytest.raises(ValueError, match=r"its tokenizer has no language|it translates into de, not into fr"):
        fast.translate(SOURCES, language="fr")
    for device in ("gpu", "cuda:x", "cuda:99"):
        with pytest.raises(ValueError, match="converted: "):
            translator("ctranslate2", out, device=device)
    (out / "model.bin").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="converted: "):
        translator("ctranslate2", out)
    (out / "model.bin").unlink()
    with pytest.raises(ValueError, match=r"converted: no model\.bin in it"):
        translator("ctranslate2", out)


def test_languages_that_a_checkpoint_does_not_know(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    for kind, code, message in (
        ("nllb", "fr", "its tokenizer has no language fra_Latn"),
        ("madlad", "ru", "its tokenizer has no language <2ru>"),
        ("marian", "zh", "it translates into de, not into zh"),
        ("nllb", "xx", "unknown language 'xx'"),
    ):
        with pytest.raises(ValueError, match=message):
            translator(kind, checkpoint(kind)).translate(["a cat"], language=code)
    several = tiny_checkpoints.marian(tmp_path / "several", target=None, tokens=(">>deu<<", ">>cmn_Hans<<"))
    engine = translator("marian", several)
    assert engine.translate(SOURCES, language="de") != engine.translate(SOURCES, language="zh")
    with pytest.raises(ValueError, match="its tokenizer has no language >>spa<< or >>es<<"):
        engine.translate(["a cat"], language="es")


def test_texts_that_are_too_long_fail_alone(checkpoint: Callable[[str], Path]) -> None:
    engine = translator("nllb", checkpoint("nllb"))
    good, failed, other = engine.translate(["the dog", "a cat " * 200, "money"], language="de")
    assert failed == Failure("text longer than the translator reads")
    assert [good, other] == engine.translate(["the dog", "money"], language="de")
    assert engine.translate([], language="de") == []


def test_a_recipe_names_the_code_of_a_language(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    for kind, code in (("nllb", "zho_Hans"), ("madlad", "zh")):
        engine = translator(kind, checkpoint(kind), language_codes={"de": code})
        usual = translator(kind, checkpoint(kind))
        assert engine.target("de") == usual.target("zh") != usual.target("de")
        assert engine.translate(SOURCES, language="de") == usual.translate(SOURCES, language="zh")
    several = tiny_checkpoints.marian(tmp_path / "several", target=None, tokens=(">>nob<<", ">>pob<<", ">>por<<"))
    assert translator("marian", several).target("no").source_prefix == ">>nob<< "
    assert translator("marian", several, language_codes={"pt": "pob"}).target("pt").source_prefix == ">>pob<< "
    with pytest.raises(ValueError, match=r">>nno<<; language_codes names another code"):
        translator("marian", several, language_codes={"no": "nno"}).target("no")
    with pytest.raises(ValueError, match="one language, so language_codes has no effect"):
        translator("marian", checkpoint("marian"), language_codes={"de": "deu"}).target("de")
    with pytest.raises(ValueError, match="language_codes is a setting of"):
        EngineConfig(kind="world", language_codes={"de": "x"})
    with pytest.raises(ValueError, match="dee"):
        EngineConfig(kind="nllb", path=several, language_codes={"dee": "x"})
