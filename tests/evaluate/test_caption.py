"""Captions: in the right language, with the right attributes, and decoded from where the prefix ends."""

from pathlib import Path

import pytest
import torch

from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.data.world import describe, sample_scene
from polyglance.data.world.grammars import GRAMMARS
from polyglance.evaluate.caption import compare_attributes, generate_greedily, score_captions, score_translations
from polyglance.evaluate.cells import read_held_out
from polyglance.evaluate.score import score_texts
from polyglance.language_identity import LanguageIdentifier
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import BOS, EOS, train_tokenizer
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

TEXTS = [(code, describe(sample_scene("pairs", 0, i, "train"), code)) for i in range(50) for code in GRAMMARS]
IDENTIFIER = LanguageIdentifier(GRAMMARS, TEXTS)


def test_languages_of_new_texts_are_told() -> None:
    for index in range(50):
        scene = sample_scene("pairs", 1, index, "test")
        for code in GRAMMARS:
            assert IDENTIFIER.identify(describe(scene, code)) == code
    assert IDENTIFIER.identify("") is None
    assert IDENTIFIER.identify("qwertz 123") is None
    assert IDENTIFIER.identify("a small red Stern") == "en"


def test_scores_of_captions() -> None:
    reference = "La photo montre un petit cercle rouge à gauche d'un grand carré bleu."
    captions = [
        reference,
        "La photo montre un petit cercle bleu à gauche d'un grand carré bleu.",
        "The image shows a small red circle to the left of a large blue square.",
        "",
    ]
    scores = score_captions(captions, [reference] * 4, "fr", IDENTIFIER, in_world=True)
    assert (scores.samples, scores.right_language, scores.exact_match) == (4, 0.5, 0.25)
    assert (scores.right_language_of_references, scores.close_language) == (1, 0)
    assert scores.attributes["colour"] == pytest.approx(3 / 8)
    assert scores.attributes["shape"] == pytest.approx(4 / 8)
    assert score_captions(captions, [reference] * 4, "fr", IDENTIFIER, in_world=False).attributes == {}


def test_languages_that_are_nearly_the_same_are_counted_apart() -> None:
    identifier = LanguageIdentifier(["da", "no", "de"])
    norwegian, danish = "En hvit katt sover ved siden av vinduet", "En hvid kat sover ved siden af vinduet"
    german = "Eine weiße Katze schläft auf dem Sofa"
    scores = score_captions(
        [norwegian, danish, german, ""], [norwegian] * 3 + [german], "no", identifier, in_world=False
    )
    assert (scores.right_language, scores.close_language) == (0.25, 0.25)
    assert scores.right_language_of_references == 0.75


@pytest.mark.parametrize("code", ["fr", "zh"])
def test_cider_and_bleu_are_those_of_the_scorer(code: str) -> None:
    references = [text for language, text in TEXTS if language == code][:8]
    texts = [*references[:5], *references[4:7]]
    captions = score_captions(texts, references, code, IDENTIFIER, in_world=True)
    translations = score_translations(texts, references, code, IDENTIFIER)
    expected = score_texts(
        {str(row): text for row, text in enumerate(texts)},
        {str(row): [reference] for row, reference in enumerate(references)},
        language=code,
        metrics=("cider", "sacrebleu"),
        sacrebleu_tokenize="char" if code == "zh" else None,
        bootstrap=0,
    )
    values = {score.name: score.value for score in expected.scores}
    assert (captions.cider, captions.bleu) == (pytest.approx(values["CIDEr"]), None)
    assert (translations.bleu, translations.cider) == (pytest.approx(values["BLEU"]), None)
    assert 0 < captions.cider < score_captions(references, references, code, IDENTIFIER, in_world=True).cider
    assert score_captions(texts[:1], references[:1], code, IDENTIFIER, in_world=True).cider is None, "always 0"


def test_attributes_count_at_their_place_only() -> None:
    reference = "The image shows a small red circle above a large blue square."
    swapped = "The image shows a large blue square above a small red circle."
    accuracy = compare_attributes([(swapped, reference)], "en")
    assert accuracy["colour"] == accuracy["shape"] == accuracy["size"] == 0
    assert accuracy["relation"] == 1


@pytest.mark.parametrize("prefix", ["", "La photo montre"])
def test_captions_are_the_greedy_continuation_of_the_prefix(world: Path, prefix: str) -> None:
    tokenizer = train_tokenizer((t for _, t in TEXTS), vocab_size=1024)
    torch.manual_seed(1)
    model = Polyglance(MicroConfig(width=16).build(tokenizer.get_vocab_size())).eval()
    samples = read_held_out(ShardReader(world / "test"), [Cell("caption", "fr")], image_size=32, samples_per_cell=3)[0]
    processor = Processor.for_model(model.config, tokenizer)
    captions = generate_greedily(model, processor, samples, prefix=prefix, max_new_tokens=6)
    for caption, image, annotation in zip(captions, samples.images, samples.annotations, strict=True):
        ids = [BOS, *tokenizer.encode(prefix).ids]
        with torch.no_grad():
            for _ in range(6):
                prompt = torch.tensor([[*tokenizer.encode(prompt_of(annotation)).ids, EOS]])
                pixels = normalise_pixels(torch.from_numpy(image[None]))
                ids.append(int(model(pixels, prompt, decoder_input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] == EOS:
                    break
        assert caption == tokenizer.decode(ids).strip()
        assert caption.startswith(prefix)
