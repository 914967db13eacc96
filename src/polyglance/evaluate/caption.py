"""Greedy captions and translations of held-out samples, and their scores: language, matches, attributes, CIDEr, ..."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from polyglance.data.world import read_attributes
from polyglance.evaluate.cells import CellSamples
from polyglance.evaluate.score import score_texts
from polyglance.evaluate.scored_languages import find_scored_language
from polyglance.language_identity import LanguageIdentifier, are_close
from polyglance.mixture.prompts import prompt_of
from polyglance.model.architecture import Polyglance
from polyglance.model.config import GenerateConfig
from polyglance.model.generate import generate_ids
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels
from polyglance.run_records import CaptionScores

__all__ = ["compare_attributes", "generate_greedily", "score_captions", "score_translations"]

_METRICS = {"cider": "CIDEr", "sacrebleu": "BLEU"}
"""Metric -> name of its score."""


@torch.no_grad()
def generate_greedily(
    model: Polyglance, processor: Processor, samples: CellSamples, *, prefix: str, max_new_tokens: int
) -> list[str]:
    """Generate the text of each sample of a cell, by greedy decoding. The texts include the prefix."""
    prompts = [prompt_of(annotation) for annotation in samples.annotations]
    features = model.encode_image(normalise_pixels(torch.from_numpy(samples.images)).to(model.device, model.dtype))
    config = GenerateConfig(beams=1, max_new_tokens=max_new_tokens, no_repeat_ngram_size=0)
    ids = generate_ids(model, processor, prompts, features, prefix=prefix, config=config)
    return processor.texts(ids[:, len(processor.config.target_start_ids) :])


def score_captions(
    captions: Sequence[str],
    references: Sequence[str],
    code: str,
    identifier: LanguageIdentifier,
    *,
    in_world: bool,
) -> CaptionScores:
    """Compare captions with references in the language `code`.

    Args:
        in_world: the data is the built-in world's, so that attributes can be read from the words.
    """
    pairs = list(zip(captions, references, strict=True))
    return CaptionScores(
        **_compare_texts(pairs, code, identifier),
        attributes=compare_attributes(pairs, code) if in_world else {},
        cider=_score(pairs, code, "cider"),
    )


def score_translations(
    texts: Sequence[str], references: Sequence[str], code: str, identifier: LanguageIdentifier
) -> CaptionScores:
    """Compare translations with references in the language `code`."""
    pairs = list(zip(texts, references, strict=True))
    return CaptionScores(**_compare_texts(pairs, code, identifier), bleu=_score(pairs, code, "sacrebleu"))


def _compare_texts(pairs: Sequence[tuple[str, str]], code: str, identifier: LanguageIdentifier) -> dict[str, Any]:
    """Return the fields of `CaptionScores` that captions and translations have: number, languages, exact matches."""
    number = len(pairs)
    found = [identifier.identify(text) for text, _ in pairs]
    close = [other for other in found if other is not None and other != code and are_close(other, code)]
    return {
        "samples": number,
        "right_language": found.count(code) / number,
        "right_language_of_references": sum(identifier.identify(text) == code for _, text in pairs) / number,
        "close_language": len(close) / number,
        "exact_match": sum(text.strip() == reference for text, reference in pairs) / number,
    }


def _score(pairs: Sequence[tuple[str, str]], code: str, metric: Literal["cider", "sacrebleu"]) -> float | None:
    """Return CIDEr (document frequencies of these references) or BLEU of texts with one reference each. BLEU counts the
    characters of languages without spaces. None for a single text, of which CIDEr is always 0."""
    if len(pairs) < 2:
        return None
    options: dict[str, Any] = {}
    if metric == "sacrebleu":
        options["sacrebleu_tokenize"] = "13a" if find_scored_language(code).spaces else "char"
    report = score_texts(
        {str(row): text for row, (text, _) in enumerate(pairs)},
        {str(row): [reference] for row, (_, reference) in enumerate(pairs)},
        language=code,
        metrics=(metric,),
        bootstrap=0,
        **options,
    )
    return next(score.value for score in report.scores if score.name == _METRICS[metric])


def compare_attributes(pairs: Sequence[tuple[str, str]], code: str) -> dict[str, float]:
    """Return attribute -> share of the references' values that the captions name at the same position.

    Args:
        pairs: caption and reference, both in the language `code`.
    """
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for caption, reference in pairs:
        named = read_attributes(caption, code)
        for name, values in read_attributes(reference, code).items():
            matches = sum(a == b for a, b in zip(values, named.get(name, ()), strict=False))
            right[name] = right.get(name, 0) + matches
            total[name] = total.get(name, 0) + len(values)
    return {name: right[name] / total[name] for name in sorted(total) if total[name]}
