"""The scorer: files of predictions and references in, scores with signatures out.

Needs neither torch nor a GPU, Java or network. Everything is checked before anything is counted (evaluate/checks.py),
tokens come from a named protocol (evaluate/protocols.py), and every number says what it is of.

    report = score(ScoreConfig(hypotheses=Path("out.json"), references=(Path("refs.json"),), language="fr"))
    report.scores[0].value, report.scores[0].signature
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from polyglance import __version__
from polyglance.evaluate.checks import (
    Missing,
    Segments,
    check_benchmark_size,
    check_document_frequency,
    check_tokenizer,
    pair,
)
from polyglance.evaluate.metrics import METRICS, Metric, metric
from polyglance.evaluate.metrics.resampling import MIN_SAMPLES
from polyglance.evaluate.predictions import read_ids, read_texts, text_set
from polyglance.evaluate.protocols import DEFAULT, Protocol, protocol
from polyglance.evaluate.score_report import (
    Measurement,
    Resampling,
    Score,
    ScoreReport,
    load_scores,
    make_report,
    subset,
    write_scores,
)
from polyglance.evaluate.scored_languages import scored_language
from polyglance.evaluate.tokenization import Tokenizer
from polyglance.languages import did_you_mean

__all__ = [
    "RAW",
    "Resampling",
    "Score",
    "ScoreConfig",
    "ScoreOptions",
    "ScoreReport",
    "load_scores",
    "score",
    "score_texts",
    "subset",
    "write_scores",
]

RAW = "raw"
"""Stands in place of a protocol for metrics that read texts as they are."""
_ALIASES: Mapping[str, tuple[str, dict[str, Any]]] = {"chrf++": ("chrf", {"word_order": 2})}
"""Names of metrics with an option."""
_SACREBLEU_TOKENIZERS = {"zh": "zh", "yue": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacrebleu's own choice by language; `char` for other languages without spaces, else `13a`."""
_METEOR_LANGUAGES = {"cs": "cz"} | {code: code for code in ("en", "de", "es", "fr", "ru", "ar")}
"""METEOR's names of the languages it has resources for."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What is measured, and how."""

    language: str
    """Of the texts: a code such as `fr`; all languages of XM3600 and some sixty more."""
    metrics: tuple[str, ...] = ("cider", "bleu")
    """cider, bleu, rouge, sacrebleu, chrf, chrf++, meteor, language, external."""
    protocols: tuple[str, ...] = (DEFAULT,)
    """How texts become tokens (evaluate/protocols.py); several are scored side by side."""
    missing: Missing = "error"
    """What to do about ids that only one side has."""
    df: str = "references"
    """Where CIDEr's document frequencies come from: `references` of the scored images, `all` references of the file, or
    a file that `DocumentFrequency.save` wrote."""
    df_resampled: bool = False
    """Whether a bootstrap draw counts document frequencies anew (slower), or keeps those of all images."""
    benchmark: str | None = None
    """Benchmark whose size the set should have."""
    sacrebleu_tokenize: str | None = None
    """sacrebleu's tokeniser; by language where None."""
    meteor_jar: Path | None = None
    """METEOR's jar; `meteor` needs it and Java."""
    external: str | None = None
    """Command of the metric `external`."""
    external_name: str = "external"
    """What its number is called."""
    num_bootstrap: int = 1000
    """Bootstrap draws for intervals; 0 for none."""
    seed: int = 0
    level: float = 0.95
    """Share of draws inside an interval."""

    def __post_init__(self) -> None:
        scored_language(self.language)
        known = (*METRICS, *_ALIASES)
        for name in self.metrics:
            if name not in known:
                raise ValueError(f"unknown metric {name!r}: {did_you_mean(name, known)}")
        if "external" in self.metrics and not self.external:
            raise ValueError("the metric 'external' needs the command that computes it (--external)")
        if self.num_bootstrap != 0 and self.num_bootstrap < MIN_SAMPLES:
            raise ValueError(
                f"num_bootstrap is {self.num_bootstrap}; 0 (no intervals), or {MIN_SAMPLES} and more, is right"
            )
        if not self.metrics or not self.protocols:
            raise ValueError("nothing to measure: name at least one metric and one protocol")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ScoreOptions):
    """Files to score, and how."""

    hypotheses: Path
    """File of predictions (evaluate/predictions.py says which formats)."""
    references: tuple[Path, ...]
    """File of references, or several with one reference each."""
    ids: Path | None = None
    """File with the ids to score, where not all of the references'."""
    sources: Path | None = None
    """File of what was translated, for external metrics."""


def score(config: ScoreConfig) -> ScoreReport:
    """Score a file of predictions.

    Raises:
        ValueError: anything that would make the numbers wrong: one line that says what and where.
    """
    references = read_texts(*config.references)
    ids = None if config.ids is None else read_ids(config.ids)
    segments = pair(read_texts(config.hypotheses), references, ids=ids, missing=config.missing)
    sources = () if config.sources is None else _sources(config.sources, segments)
    return _score(segments, config, sources=sources, source=str(config.hypotheses))


def score_texts(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    language: str,
    metrics: Sequence[str] = ("cider", "bleu"),
    protocols: Sequence[str] = (DEFAULT,),
    sources: Mapping[str, str] | None = None,
    **options: Any,
) -> ScoreReport:
    """Score texts in memory, by id.

    Args:
        references: id -> its references.
        sources: id -> what was translated, for external metrics.
        options: further fields of `ScoreOptions`.

    Raises:
        ValueError: as `score`.
    """
    chosen = ScoreOptions(language=language, metrics=tuple(metrics), protocols=tuple(protocols), **options)
    segments = pair(text_set(hypotheses, "predictions"), text_set(references, "references"), missing=chosen.missing)
    aligned = () if sources is None else tuple(sources.get(str(name), "") for name in segments.ids)
    return _score(segments, chosen, sources=aligned, source="predictions")


def _score(segments: Segments, options: ScoreOptions, *, sources: Sequence[str], source: str) -> ScoreReport:
    warnings = list(segments.warnings)
    if options.benchmark is not None:
        warnings += check_benchmark_size(options.benchmark, len(segments.ids))
    if "cider" in options.metrics:
        warnings += check_document_frequency(len(segments.ids), len(segments.all_references), options.df)
    metrics = [_made(name, options, segments, sources) for name in dict.fromkeys(options.metrics)]
    chosen = {made.name: made for made in (protocol(name, options.language) for name in options.protocols)}
    counted = [one for one in metrics if one.reads == "tokens"]
    measurements = [
        *(one for made in chosen.values() if counted for one in _on_tokens(counted, made, segments, options, warnings)),
        *(_on_text(one, segments, options, warnings) for one in metrics if one.reads == "text"),
    ]
    resampling = Resampling(num_samples=options.num_bootstrap, seed=options.seed, level=options.level)
    return make_report(measurements, ids=segments.ids, warnings=warnings, resampling=resampling, source=source)


def _made(name: str, options: ScoreOptions, segments: Segments, sources: Sequence[str]) -> Metric:
    """The metric, with what it has to be told; CIDEr gets its document frequencies when there are tokens."""
    name, own = _ALIASES.get(name, (name, {}))
    entry = scored_language(options.language)
    if name == "sacrebleu":
        by_language = _SACREBLEU_TOKENIZERS.get(entry.code, "13a" if entry.spaces else "char")
        own = {"tokenize": options.sacrebleu_tokenize or by_language}
    elif name == "cider":
        own = {"df_resampled": options.df_resampled}
    elif name == "meteor":
        own = {"jar": options.meteor_jar, "language": _METEOR_LANGUAGES.get(entry.code, "other")}
    elif name == "language":
        own = {"language": entry.code}
    elif name == "external":
        ids = tuple(str(one) for one in segments.ids)
        own = {"command": options.external, "score_name": options.external_name, "ids": ids, "sources": tuple(sources)}
    return metric(name, **own)


def _on_tokens(
    metrics: Sequence[Metric], made: Protocol, segments: Segments, options: ScoreOptions, warnings: list[str]
) -> Iterator[Measurement]:
    """Measurements of metrics that read a protocol's tokens."""
    tokenizer = made.tokenizer(options.language)
    warnings += check_tokenizer(", ".join(one.name for one in metrics), tokenizer.name, options.language)
    hypotheses = tokenizer.tokenize(segments.hypotheses)
    references = _cut(segments.references, tokenizer)
    parts = {"proto": made.name, "tok": f"{tokenizer.name}-{tokenizer.version}", "case": made.case(options.language)}
    for one in metrics:
        ready = _with_document_frequency(one, options.df, segments, tokenizer) if one.name == "cider" else one
        yield Measurement(
            metric=ready,
            protocol=made.name,
            language=options.language,
            factor=made.factor,
            statistics=ready.statistics(hypotheses, references),
            parts=_signature_parts(ready, segments, options, factor=made.factor, tokens=parts),
        )


def _on_text(one: Metric, segments: Segments, options: ScoreOptions, warnings: list[str]) -> Measurement:
    """The measurement of a metric that reads texts as they are."""
    warnings += check_tokenizer(one.name, one.signature().get("tok", ""), options.language)
    return Measurement(
        metric=one,
        protocol=RAW,
        language=options.language,
        factor=1.0,
        statistics=one.statistics(segments.hypotheses, segments.references),
        parts=_signature_parts(one, segments, options, factor=1.0, tokens={}),
    )


def _with_document_frequency(cider: Metric, df: str, segments: Segments, tokenizer: Tokenizer) -> Metric:
    from polyglance.evaluate.metrics.cider import Cider
    from polyglance.evaluate.metrics.document_frequency import DocumentFrequency

    assert isinstance(cider, Cider)
    if df == "references":
        return cider
    if df != "all":
        return replace(cider, df=DocumentFrequency.load(df))
    return replace(cider, df=DocumentFrequency.of(_cut(segments.all_references, tokenizer), name="all"))


def _cut(references: Sequence[Sequence[str]], tokenizer: Tokenizer) -> list[list[str]]:
    """References into words, in one go: a tokeniser knows what it has seen."""
    tokens = iter(tokenizer.tokenize(list(chain.from_iterable(references))))
    return [[next(tokens) for _ in texts] for texts in references]


def _signature_parts(
    one: Metric, segments: Segments, options: ScoreOptions, *, factor: float, tokens: Mapping[str, str]
) -> dict[str, str]:
    """All that moves the number, in a fixed order: tokens, data, then the metric's own."""
    own = dict(one.signature())
    num_references = sum(map(len, segments.references))
    first = {key: own.pop(key, tokens.get(key)) for key in ("tok", "df", "case")}
    parts = {
        "proto": tokens.get("proto", RAW),
        "tok": first["tok"],
        "lang": options.language,
        "df": first["df"],
        "imgs": str(len(segments.ids)),
        "refs": f"{num_references / len(segments.ids):.5g}",
        "case": first["case"],
        "scale": f"0-{one.scale * factor:g}",
        **{f"{one.name}-{key}" if key == "lang" else key: value for key, value in own.items()},
        "missing": None if options.missing == "error" else options.missing,
        "data": _data_hash(segments),
        "version": __version__,
    }
    return {key: value for key, value in parts.items() if value is not None}


def _data_hash(segments: Segments) -> str:
    """8 hexadecimal digits that change with any id or reference."""
    rows = sorted((str(name), texts) for name, texts in zip(segments.ids, segments.references, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]


def _sources(path: Path, segments: Segments) -> tuple[str, ...]:
    texts = read_texts(path).by_id()
    absent = [str(name) for name in segments.ids if str(name) not in texts]
    if absent:
        raise ValueError(
            f"{path}: {len(absent):,} of {len(segments.ids):,} ids have no source, the first is {absent[0]!r}"
        )
    return tuple(texts[str(name)][0] for name in segments.ids)
