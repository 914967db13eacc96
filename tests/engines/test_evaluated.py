"""Models of others under evaluation, as tiny random checkpoints: batches, losses, prompts, facts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from polyglance.engines import ModelConfig, Picture, open_model
from polyglance.engines.blip2 import cut_context
from polyglance.engines.paligemma import remove_spaces_in_chinese

SOURCES = ["the cat", "a dog sits on the bank", "the money in the river # ( a bank )"]
CANDIDATES = [["Die Bank", "der Fluss der Fluss"], ["Die", "der Bank Fluss"], ["Bank", "Fluss"]]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def opened(checkpoint: Callable[[str], Path]) -> Open:
    def get(name: str, **settings: Any) -> Any:
        both = f"blip2+nllb:{checkpoint('blip2')},{checkpoint('nllb')}"
        spec = both if name == "blip2" else str(checkpoint(name))
        return open_model(ModelConfig(model=spec, **{"max_new_tokens": 8, **settings}))

    return get


@pytest.mark.parametrize("name", ["florence2", "paligemma", "gemma3", "blip2"])
def test_captions_are_those_of_each_image_alone(name: str, opened: Open, pictures: list[Picture]) -> None:
    model = opened(name)
    together = model.write_captions(pictures, "en")
    assert together == [model.write_captions([picture], "en")[0] for picture in pictures]
    assert len(set(together)) > 1, "or a mix-up would not show"


@pytest.mark.parametrize("name", ["gemma3", "blip2", "nllb"])
def test_translations_are_those_of_each_text_alone(name: str, opened: Open, pictures: list[Picture]) -> None:
    model = opened(name)
    together = model.write_translations(pictures, SOURCES, "de")
    rows = zip(pictures, SOURCES, strict=True)
    assert together == [model.write_translations([picture], [source], "de")[0] for picture, source in rows]
    assert len(set(together)) > 1, "or a mix-up would not show"
    assert model.write_translations(pictures, SOURCES, "zh") != together


@pytest.mark.parametrize("name", ["gemma3", "blip2", "nllb"])
def test_losses_are_those_of_each_candidate_alone(name: str, opened: Open, pictures: list[Picture]) -> None:
    model = opened(name)
    together = model.measure_losses(pictures, SOURCES, CANDIDATES, "de")
    for picture, source, texts, losses in zip(pictures, SOURCES, CANDIDATES, together, strict=True):
        for text, loss in zip(texts, losses, strict=True):
            ((alone,),) = model.measure_losses([picture], [source], [[text]], "de")
            assert loss.num_tokens == alone.num_tokens
            assert loss.nats == pytest.approx(alone.nats, rel=1e-5)
    if name != "nllb":  # which sees no image
        changed = model.measure_losses(pictures[::-1], SOURCES, CANDIDATES, "de")
        assert changed[0][0].nats != pytest.approx(together[0][0].nats, rel=1e-3)


def test_nllb_loss_is_the_librarys(opened: Open, pictures: list[Picture]) -> None:
    model = opened("nllb")
    ((loss,),) = model.measure_losses(pictures[:1], ["the cat"], [["Die Bank"]], "de")
    words = model.tokenizer
    words.tgt_lang = "deu_Latn"
    batch = words(["the cat"], text_target=["Die Bank"], return_tensors="pt")
    with torch.no_grad():
        mean = model.model(**batch).loss
    assert loss.num_tokens == batch["labels"].shape[1]
    assert loss.nats / loss.num_tokens == pytest.approx(float(mean), rel=1e-5)


def test_nllb_reads_a_source_once_for_all_candidates(opened: Open, pictures: list[Picture]) -> None:
    model = opened("nllb")
    rows: list[int] = []
    model.model.get_encoder().register_forward_hook(lambda module, args, out: rows.append(len(out.last_hidden_state)))
    model.measure_losses(pictures, SOURCES, CANDIDATES, "de")
    assert rows == [3]


def test_chat_loss_is_that_of_question_and_answer_read_together(opened: Open, pictures: list[Picture]) -> None:
    """The question is longer than the sliding window, so that a cache that was cut or written to would show."""
    model = opened("gemma3")
    ((_, loss),) = model.measure_losses(pictures[:1], SOURCES[:1], CANDIDATES[:1], "de")
    prompt = model.facts("disambiguation", "de")["prompt"].replace("{source}", SOURCES[0])
    question = model.process([pictures[0].rgb], [prompt])
    words = model.processor.tokenizer
    answer = torch.tensor([[*words(CANDIDATES[0][1], add_special_tokens=False)["input_ids"], model.end_id]])
    assert words.convert_ids_to_tokens(model.end_id) == "<end_of_turn>"
    joined = dict(question)
    joined["input_ids"] = torch.cat([question["input_ids"], answer], dim=1)
    joined["attention_mask"] = torch.ones_like(joined["input_ids"])
    joined["token_type_ids"] = torch.nn.functional.pad(question["token_type_ids"], (0, answer.shape[1]))
    with torch.no_grad():
        logits = model.model(**joined).logits[:, question["input_ids"].shape[1] - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits[0], answer[0], reduction="sum")
    assert loss.num_tokens == answer.shape[1]
    assert loss.nats == pytest.approx(float(expected), rel=1e-4)


def test_blip2_context_is_cut_off_or_left_out(opened: Open, pictures: list[Picture]) -> None:
    assert cut_context("Die Bank am Fluss. ### (ein Foto)") == "Die Bank am Fluss."
    assert cut_context("Die Bank am Fluss. (ein Foto)") is None, "no mark: where the context begins is not known"
    assert cut_context("aaaaabcde ### x") is None, "five different characters"
    model = opened("blip2")
    asked: list[str] = []

    def translate(texts: Sequence[str], language: str) -> list[str]:
        asked.extend(texts)
        return ["Ein Satz. ### (x)" if text.startswith("the cat") else "ohne Zeichen" for text in texts]

    model.translator.translate_batch = translate
    assert model.write_translations(pictures, SOURCES, "de") == ["Ein Satz.", "ohne Zeichen", "ohne Zeichen"]
    assert asked[0].startswith("the cat ### (")
    assert asked[3:] == SOURCES[1:], "translated again without context"


def test_blip2_translates_captions_into_other_languages(opened: Open, pictures: list[Picture]) -> None:
    model = opened("blip2")
    english = model.write_captions(pictures, "en")
    assert not any(text.startswith("a photo of") for text in english)
    assert model.write_captions(pictures, "de") == model.translator.translate_batch(english, "de")


def test_spaces_between_han_characters() -> None:
    assert remove_spaces_in_chinese("一 只 猫 in 河 边 , 2 只 。") == "一只猫 in 河边 , 2 只 。"


def test_facts_depend_on_settings_and_language(opened: Open) -> None:
    model = opened("nllb")
    assert model.facts("translation", "de") == opened("nllb").facts("translation", "de")
    others = [opened("nllb", beams=2), opened("nllb", max_new_tokens=9)]
    facts = [json.dumps(dict(other.facts("translation", "de"))) for other in (model, *others)]
    facts.append(json.dumps(dict(model.facts("translation", "zh"))))
    assert len(set(facts)) == 4
    assert "beams" not in model.facts("disambiguation", "de"), "losses do not depend on them"
    defaults = {
        name: opened(name, max_new_tokens=None).facts("caption", "en") for name in ("florence2", "paligemma", "gemma3")
    }
    published = {name: (fact["beams"], fact["max_new_tokens"]) for name, fact in defaults.items()}
    assert published == {"florence2": (4, 128), "paligemma": (1, 100), "gemma3": (1, 128)}
    assert defaults["florence2"]["prompt"] == "<CAPTION>"
    assert opened("blip2").facts("caption", "de")["translator"]["prompt"] == "(caption)"
