"""Other people's models, as tiny random checkpoints: what they are asked, what is done with what they answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch

from polyglance.engines.blip2 import Blip2Nllb, cut_context
from polyglance.engines.chat import Chat
from polyglance.engines.library import folder_digest
from polyglance.engines.nllb import Nllb
from polyglance.engines.open import EvaluatedModel, ModelConfig, Picture, check_capability, open_model
from polyglance.engines.paligemma import without_spaces_in_chinese

SOURCES = ["the cat", "a dog sits on the bank", "the money in the river # ( a bank )"]
CANDIDATES = [["Die Bank", "der Fluss der Fluss"], ["Die", "der Bank Fluss"], ["Bank", "Fluss"]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("baselines")
    made = ("florence2", "paligemma", "gemma3", "blip2", "nllb")
    return {name: getattr(tiny_checkpoints, name)(out / name) for name in made}


def opened(folders: dict[str, Path], name: str, **settings: Any) -> EvaluatedModel:
    spec = f"blip2+nllb:{folders['blip2']},{folders['nllb']}" if name == "blip2" else str(folders[name])
    return open_model(ModelConfig(model=spec, **{"max_new_tokens": 8, **settings}))


@pytest.mark.parametrize("name", ["florence2", "paligemma", "gemma3", "blip2"])
def test_captions_are_those_of_each_image_alone(
    name: str, folders: dict[str, Path], pictures: Sequence[Picture]
) -> None:
    model = opened(folders, name)
    together = model.captions(pictures, "en")
    assert together == [model.captions([picture], "en")[0] for picture in pictures]
    assert len(set(together)) > 1, "or a mix-up would not show"


@pytest.mark.parametrize("name", ["gemma3", "blip2", "nllb"])
def test_translations_are_those_of_each_text_alone(
    name: str, folders: dict[str, Path], pictures: Sequence[Picture]
) -> None:
    model = opened(folders, name)
    together = model.translations(pictures, SOURCES, "de")
    rows = zip(pictures, SOURCES, strict=True)
    assert together == [model.translations([picture], [source], "de")[0] for picture, source in rows]
    assert len(set(together)) > 1, "or a mix-up would not show"
    assert model.translations(pictures, SOURCES, "zh") != together


@pytest.mark.parametrize("name", ["gemma3", "blip2", "nllb"])
def test_losses_are_those_of_each_candidate_alone(
    name: str, folders: dict[str, Path], pictures: Sequence[Picture]
) -> None:
    model = opened(folders, name)
    together = model.losses(pictures, SOURCES, CANDIDATES, "de")
    for picture, source, texts, losses in zip(pictures, SOURCES, CANDIDATES, together, strict=True):
        for text, loss in zip(texts, losses, strict=True):
            ((alone,),) = model.losses([picture], [source], [[text]], "de")
            assert loss.num_tokens == alone.num_tokens
            assert loss.nats == pytest.approx(alone.nats, rel=1e-5)
    if name != "nllb":  # which sees no image
        changed = model.losses(pictures[::-1], SOURCES, CANDIDATES, "de")
        assert changed[0][0].nats != pytest.approx(together[0][0].nats, rel=1e-3)


def test_nllb_loss_is_the_librarys(folders: dict[str, Path], pictures: Sequence[Picture]) -> None:
    model = opened(folders, "nllb")
    assert isinstance(model, Nllb)
    ((loss,),) = model.losses(pictures[:1], ["the cat"], [["Die Bank"]], "de")
    words = model._tokenizer
    words.src_lang, words.tgt_lang = "eng_Latn", "deu_Latn"
    batch = words(["the cat"], text_target=["Die Bank"], return_tensors="pt")
    with torch.no_grad():
        mean = model._model(**batch).loss
    assert loss.num_tokens == batch["labels"].shape[1]
    assert loss.nats / loss.num_tokens == pytest.approx(float(mean), rel=1e-5)


def test_chat_loss_is_that_of_question_and_answer_read_together(
    folders: dict[str, Path], pictures: Sequence[Picture]
) -> None:
    """The question is longer than the sliding window, so that a cache that was cut or written to would show."""
    model = opened(folders, "gemma3")
    assert isinstance(model, Chat)
    text = CANDIDATES[0][1]
    ((_, loss),) = model.losses(pictures[:1], SOURCES[:1], CANDIDATES[:1], "de")
    question = model._chats([pictures[0].rgb], [_asked(model, SOURCES[0])])
    words = model._processor.tokenizer
    answer = torch.tensor([[*words(text, add_special_tokens=False)["input_ids"], model._end_id]])
    assert words.convert_ids_to_tokens(model._end_id) == "<end_of_turn>"
    whole = dict(question)
    whole["input_ids"] = torch.cat([question["input_ids"], answer], dim=1)
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    whole["token_type_ids"] = torch.nn.functional.pad(question["token_type_ids"], (0, answer.shape[1]))
    with torch.no_grad():
        logits = model._model(**whole).logits[:, question["input_ids"].shape[1] - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits[0], answer[0], reduction="sum")
    assert loss.num_tokens == answer.shape[1]
    assert loss.nats == pytest.approx(float(expected), rel=1e-4)


def _asked(model: EvaluatedModel, source: str) -> str:
    return model.facts("disambiguation", "de")["prompt"].replace("{source}", source)


def test_candidates_share_what_is_computed_of_image_and_source(
    folders: dict[str, Path], pictures: Sequence[Picture]
) -> None:
    model = opened(folders, "nllb")
    assert isinstance(model, Nllb)
    rows: list[int] = []
    model._model.get_encoder().register_forward_hook(lambda module, args, out: rows.append(len(out.last_hidden_state)))
    model.losses(pictures, SOURCES, CANDIDATES, "de")
    assert rows == [3]


def test_context_is_cut_off_or_left_out(folders: dict[str, Path], pictures: Sequence[Picture]) -> None:
    assert cut_context("Die Bank am Fluss. ### (ein Foto)") == "Die Bank am Fluss."
    assert cut_context("Die Bank am Fluss. (ein Foto)") is None, "no mark: what is context cannot be told"
    assert cut_context("aaaaabcde ### x") is None, "five different characters"
    model = opened(folders, "blip2")
    assert isinstance(model, Blip2Nllb)
    asked: list[str] = []

    def translate(texts: Sequence[str], language: str) -> list[str]:
        asked.extend(texts)
        return ["Ein Satz. ### (x)" if text.startswith("the cat") else "ohne Zeichen" for text in texts]

    model._translator.translate = translate  # type: ignore[method-assign]
    assert model.translations(pictures, SOURCES, "de") == ["Ein Satz.", "ohne Zeichen", "ohne Zeichen"]
    assert asked[0].startswith("the cat ### (")
    assert asked[3:] == SOURCES[1:], "translated again without context"


def test_english_captions_are_not_translated(folders: dict[str, Path], pictures: Sequence[Picture]) -> None:
    model = opened(folders, "blip2")
    assert isinstance(model, Blip2Nllb)
    english = model.captions(pictures, "en")
    assert not any(text.startswith("a photo of") for text in english if isinstance(text, str))
    assert model.captions(pictures, "de") == model._translator.translate([str(text) for text in english], "de")


def test_spaces_between_han_characters() -> None:
    assert without_spaces_in_chinese("一 只 猫 in 河 边 , 2 只 。") == "一只猫 in 河边 , 2 只 。"


def test_digest_and_facts_tell_models_and_settings_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    model = opened(folders, "nllb")
    assert model.facts("translation", "de") == opened(folders, "nllb").facts("translation", "de")
    others = [opened(folders, "nllb", beams=2), opened(folders, "nllb", max_new_tokens=9)]
    facts = [json.dumps(dict(other.facts("translation", "de"))) for other in (model, *others)]
    facts.append(json.dumps(dict(model.facts("translation", "zh"))))
    assert len(set(facts)) == 4
    for file in folders["nllb"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert folder_digest(tmp_path) == folder_digest(folders["nllb"])
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert folder_digest(tmp_path) != folder_digest(folders["nllb"])


@pytest.mark.parametrize(
    ("name", "task", "language", "message"),
    [
        ("florence2", "caption", "de", "florence2 does not know the language 'de'; it knows en"),
        ("florence2", "disambiguation", "en", "florence2 cannot do disambiguation; it can: caption"),
        ("nllb", "caption", "de", "nllb cannot do caption; it can: translation, disambiguation"),
        ("nllb", "translation", "en", "nllb does not know the language 'en'"),
        ("gemma3", "caption", "xx", "gemma3 does not know the language 'xx'"),
    ],
)
def test_what_a_model_cannot_do(name: str, task: Any, language: str, message: str, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=message):
        check_capability(opened(folders, name), task, language)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{tmp}/none", "none: no such folder"),
        ("{tmp}/empty", "config.json: no such file"),
        ("{blip2}", r"BLIP-2 needs a translator: give blip2\+nllb:.*blip2,FOLDER_OF_NLLB"),
        ("blip2+nllb:{blip2}", r"expected blip2\+nllb:FOLDER,FOLDER"),
        ("nllb:{tmp}/none", "none: no such folder"),
        ("endpoint:ftp://host/v1#m", "expected endpoint:http://HOST:PORT/v1#MODEL"),
        ("endpoint:http://host/v1", "expected endpoint:http://HOST:PORT/v1#MODEL"),
    ],
)
def test_specifications(spec: str, message: str, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        open_model(ModelConfig(model=spec.format(tmp=tmp_path, blip2=folders["blip2"])))


def test_options_of_own_models_only(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="florence2: prefix is an option of this project's models only"):
        opened(folders, "florence2", prefix="auto")
    with pytest.raises(ValueError, match="nllb: resolution is an option of this project's models only"):
        opened(folders, "nllb", resolution=224)
    with pytest.raises(ValueError, match="beams is 0; expected at least 1"):
        opened(folders, "nllb", beams=0)


@pytest.mark.parametrize("fault", ["pickle", "no tokenizer", "no chat template", "missing tensor"])
def test_broken_folders(fault: str, folders: dict[str, Path], pictures: Sequence[Picture], tmp_path: Path) -> None:
    for file in folders["gemma3"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    match fault:
        case "pickle":
            (tmp_path / "model.safetensors").unlink()
            torch.save({}, tmp_path / "pytorch_model.bin")
            message = "a pickle can run code"
        case "no tokenizer":
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (tmp_path / name).unlink()
            message = "no tokenizer in it"
        case "no chat template":
            (tmp_path / "chat_template.jinja").unlink()
            message = "it has no chat template: not a chat model"
        case "missing tensor":
            _drop_tensor(tmp_path / "model.safetensors", "mlp.up_proj.weight")
            message = r"1 tensor\(s\) are missing: .*mlp.up_proj.weight"
    with pytest.raises(ValueError, match=message) as error:
        open_model(ModelConfig(model=str(tmp_path))).captions(pictures[:1], "en")
    assert "\n" not in str(error.value)


def _drop_tensor(path: Path, ending: str) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(path)
    del state[next(name for name in state if name.endswith(ending))]
    save_file(state, path, {"format": "pt"})


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"text.jpg: not an image that can be read"):
        Picture.read(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"none.jpg: No such file"):
        Picture.read(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="not an image"):
        Picture.read(b"no image")
