"""The scorer: files of predictions and references in, scores with signatures out.

Needs neither torch nor a GPU, Java or network. Everything is checked before anything is counted (checks.py), tokens
come from a named protocol (protocols.py), and every number carries a signature.

    report = score_files(Path("out.json"), [Path("refs.json")], ScoreConfig(lang="fr"))
    report.scores[0].value, report.scores[0].signature
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from polyglance import __version__
from polyglance.data.texts.text_files import ReadOptions, TextSet, make_text_set, read_ids, read_texts
from polyglance.evaluate.checks import (
    Duplicates,
    Missing,
    SegmentTexts,
    check_benchmark_size,
    check_document_frequency,
    check_tokenizer,
    keep_common,
    pair_texts,
)
from polyglance.evaluate.metrics import METRICS, Metric, make_metric
from polyglance.evaluate.metrics.document_frequency import DocumentFrequency
from polyglance.evaluate.metrics.resampling import MIN_SAMPLES, Resampling
from polyglance.evaluate.protocols import DEFAULT, RAW, ScoringProtocol, find_protocol
from polyglance.evaluate.score_report import Measurement, ScoreReport, make_report
from polyglance.evaluate.scored_languages import find_scored_language
from polyglance.evaluate.text_differences import NORMALISATIONS, FormWarning, find_differences, normalise_texts
from polyglance.evaluate.tokenization import Tokenizer
from polyglance.languages import did_you_mean
from polyglance.settings import refuse_unused

__all__ = ["ScoreConfig", "ScoreOptions", "reads_words", "score_files", "score_systems", "score_texts"]

_ALIASES: Mapping[str, tuple[str, dict[str, Any]]] = {"chrf++": ("chrf", {"word_order": 2})}
"""Name of a metric that stands for another one with an option -> that metric and the option."""
_METRICS_OF_WORDS = frozenset({"cider", "bleu", "rouge", "meteor"})
"""Metrics that read the words of a protocol; the others read texts."""
_SACREBLEU_TOKENIZERS = {"zh": "zh", "yue": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacrebleu's own choice by language; `char` for other languages without spaces, else `13a`."""
_METEOR_LANGUAGES = {"cs": "cz"} | {code: code for code in ("en", "de", "es", "fr", "ru", "ar")}
"""METEOR's names of the languages it has resources for."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Metrics, and how they are computed."""

    lang: str = ""
    """Language of the texts: a code such as fr; all languages of XM3600 and some sixty more. Scoring needs it."""
    metrics: tuple[str, ...] = ("cider", "bleu")
    """Metrics: cider, bleu, rouge, sacrebleu, chrf, chrf++, meteor, language, external."""
    protocol: tuple[str, ...] = (DEFAULT,)
    """Protocols that make texts into words; several are scored side by side."""
    missing: Missing = "error"
    """Ids that only one side has: `error` refuses them; `empty` scores a missing prediction as an empty text; `drop`
    scores the ids that both have."""
    duplicates: Duplicates = "error"
    """Ids with several different predictions: `error` refuses them; `first` or `last` is scored. Equal ones count
    once."""
    normalise: tuple[str, ...] = ()
    """Changes of all texts before they are scored: entities (HTML entities decoded), reasoning (text of a model before
    its answer, and special tokens, deleted), special (special tokens deleted), subwords (joined), nfc, nfkc, invisible
    (characters without a shape deleted), quotes (and dashes, as ASCII), lower, unsegment (spaces between letters
    deleted in scripts without spaces). They are part of the signature."""
    df: str = "references"
    """Source of CIDEr's document frequencies: `references` of the scored images, `all` references of the file, or a
    file that `DocumentFrequency.save` wrote."""
    df_resampled: bool = False
    """Count document frequencies again in each bootstrap draw (slower), instead of keeping those of all images."""
    benchmark: str | None = None
    """Benchmark whose size the set should have, such as coco-karpathy; another size is a warning."""
    sacrebleu_tokenize: str | None = None
    """sacrebleu's tokeniser; by language if not given."""
    meteor_jar: Path | None = None
    """METEOR's jar; the metric meteor needs it and Java."""
    external: str | None = None
    """Command of the metric external: JSON lines in, one number per line out."""
    external_name: str = "external"
    """Name of the number of the metric external."""
    bootstrap: int = 1000
    """Number of bootstrap draws for intervals, at least 20; 0 gives no intervals."""
    seed: int = 0
    """Seed of the draws."""
    level: float = 0.95
    """Share of the draws inside an interval."""

    def __post_init__(self) -> None:
        if self.lang:
            object.__setattr__(self, "lang", find_scored_language(self.lang).code)
        known = (*METRICS, *_ALIASES)
        for name in self.metrics:
            if name not in known:
                raise ValueError(f"unknown metric {name!r}: {did_you_mean(name, known)}")
        for name in self.normalise:
            if name not in NORMALISATIONS:
                raise ValueError(f"unknown normalisation {name!r}: {did_you_mean(name, tuple(NORMALISATIONS))}")
        if "external" in self.metrics and not self.external:
            raise ValueError("the metric 'external' needs the command that computes it (--external)")
        if self.bootstrap != 0 and self.bootstrap < MIN_SAMPLES:
            raise ValueError(f"bootstrap is {self.bootstrap}; expected 0 (no intervals), or at least {MIN_SAMPLES}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")
        if not self.metrics or not self.protocol:
            raise ValueError("nothing to measure; give at least one metric and one protocol")
        self._refuse_unused()

    def _refuse_unused(self) -> None:
        def needs(metric: str) -> tuple[bool, str]:
            return metric in self.metrics, f"without `metrics` {metric}"

        refuse_unused(
            self,
            protocol=(reads_words(self.metrics), "without `metrics` that read words (cider, bleu, rouge, meteor)"),
            df=needs("cider"),
            df_resampled=needs("cider") if self.bootstrap else (False, "with `bootstrap` 0"),
            sacrebleu_tokenize=needs("sacrebleu"),
            meteor_jar=needs("meteor"),
            external=needs("external"),
            external_name=needs("external"),
            level=(self.bootstrap, "with `bootstrap` 0"),
        )


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ScoreOptions):
    """Metrics, how they are computed, and which texts of the files are scored."""

    ids: Path | None = None
    """File of the ids to score, one per line; all of the references' if not given."""
    sources: Path | None = None
    """File of the source texts, for external metrics."""
    text_column: tuple[str, ...] = ()
    """Columns of texts in tables, keys in records, systems in markup, as they are called in either file; recognised by
    their names if not given. Several columns hold several references. Columns without a name have numbers from 1."""
    refs_text_column: tuple[str, ...] = ()
    """Columns of the references' texts, if they differ from `text_column`: for one table with both."""
    id_column: str = ""
    """Column or key of the ids; recognised by its name if not given."""
    split: str = ""
    """Split of files and folders that hold several: Karpathy's JSON, tables and records with a column `split`."""
    as_lines: bool = False
    """Take files of text as one text per line, whatever their lines look like."""
    split_texts: str = ""
    """Mark between several references in one cell, line or string, such as `|||`, `\\t` or `\\n`; `none`: a text is
    one text, whatever marks are in it. If not given, texts with such marks are refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unused(self, sources=("external" in self.metrics, "without `metrics` external"))


def score_files(predictions: Path, references: Sequence[Path], config: ScoreConfig) -> ScoreReport:
    """Score a file of predictions, in any form that `read_texts` knows.

    Args:
        references: file of references, or several files with one reference of each text.

    Raises:
        ValueError: anything that would make the numbers wrong: one line with the mistake and its place.
    """
    return score_systems([predictions], references, config)[0]


def score_systems(
    predictions: Sequence[Path], references: Sequence[Path], config: ScoreConfig
) -> tuple[ScoreReport, ...]:
    """Score the predictions of several systems on the same segments, as `score_files` does.

    References are read and tokenised once. If `missing` is `drop`, the ids that all systems have are scored.
    """
    if not references:
        raise ValueError("--refs is missing; give the file of references")
    _check_language(config)
    systems = _pair_files(predictions, references, config)
    sources: Sequence[str] = ()
    if config.sources is not None:
        texts = {name: several[0] for name, several in read_texts(config.sources).by_id().items()}
        sources = _align_sources(texts, str(config.sources), systems[0])
    return _score(systems, config, sources=sources, names=[str(path) for path in predictions])


def _pair_files(predictions: Sequence[Path], references: Sequence[Path], config: ScoreConfig) -> list[SegmentTexts]:
    """Read the files and pair their texts. Only the pairs stay in memory."""
    predicted, expected = _read_files(predictions, references, config)
    ids = None if config.ids is None else read_ids(config.ids)
    return keep_common(
        [
            pair_texts(texts, expected, ids=ids, missing=config.missing, duplicates=config.duplicates)
            for texts in predicted
        ]
    )


def _read_files(
    predictions: Sequence[Path], references: Sequence[Path], config: ScoreConfig
) -> tuple[list[TextSet], TextSet]:
    """Read predictions and references.

    Raises:
        UnusedSettingError: an option about the reading of files that none of these files uses.
    """
    common = ReadOptions(
        text_column=config.text_column,
        id_column=config.id_column,
        split=config.split,
        language=find_scored_language(config.lang).code,
        as_lines=config.as_lines,
        split_texts=config.split_texts,
    )
    reference_options = replace(common, role="references", text_column=config.refs_text_column or config.text_column)
    expected = read_texts(*references, options=reference_options)
    predicted = [read_texts(path, options=common) for path in predictions]
    _check_read_options(config, predicted, expected)
    return predicted, expected


def _check_read_options(config: ScoreConfig, predicted: Sequence[TextSet], expected: TextSet) -> None:
    used_by_predictions = frozenset().union(*(texts.used for texts in predicted))
    used = used_by_predictions | expected.used
    by_role = {"refs_text_column": expected.used, "text_column": used_by_predictions}
    if not config.refs_text_column:
        by_role = {"text_column": used}
    for option, columns in by_role.items():
        for name in getattr(config, option):
            if f"text_column {name}" not in columns:
                notes = "; ".join(note for texts in (expected, *predicted) for note in texts.notes)
                wrong = f"--{option.replace('_', '-')} {name}: the files have no such column"
                raise ValueError(f"{wrong}; {notes or 'they hold no table'}")
    given = ("id_column", "split", "as_lines", "split_texts")
    refuse_unused(config, **{name: (name in used, "on these files") for name in given})


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
        sources: id -> its source text, for external metrics.
        options: further fields of `ScoreOptions`, such as `bootstrap`.

    Raises:
        ValueError: as `score_files`.
    """
    chosen = ScoreOptions(lang=language, metrics=tuple(metrics), protocol=tuple(protocols), **options)
    _check_language(chosen)
    predictions = make_text_set(hypotheses, "predictions")
    segments = pair_texts(
        predictions, make_text_set(references, "references"), missing=chosen.missing, duplicates=chosen.duplicates
    )
    aligned = () if sources is None else _align_sources(sources, "sources", segments)
    return _score([segments], chosen, sources=aligned, names=["predictions"])[0]


def reads_words(metrics: Iterable[str]) -> bool:
    """Tell whether one of these metrics reads the words that a protocol makes."""
    return not _METRICS_OF_WORDS.isdisjoint(metrics)


def _check_language(options: ScoreOptions) -> None:
    if not options.lang:
        raise ValueError("--lang is missing: the language of the texts, such as fr")


def _score(
    systems: Sequence[SegmentTexts], options: ScoreOptions, *, sources: Sequence[str], names: Sequence[str]
) -> tuple[ScoreReport, ...]:
    """Score systems that have the same segments and references."""
    normalised = [_normalise(one, options.normalise) for one in systems]
    systems = [segments for segments, _ in normalised]
    first = systems[0]
    common = check_benchmark_size(options.benchmark, len(first.ids)) if options.benchmark is not None else []
    if "cider" in options.metrics:
        num_images = None if options.df in ("references", "all") else DocumentFrequency.load(options.df).num_images
        common += check_document_frequency(len(first.ids), len(first.all_references), options.df, num_images=num_images)
    metrics = [_make_metric(name, options, first, sources) for name in dict.fromkeys(options.metrics)]
    on_tokens = [metric for metric in metrics if metric.reads == "tokens"]
    protocols = {entry.name: entry for entry in (find_protocol(name, options.lang) for name in options.protocol)}
    measurements: list[list[Measurement]] = [[] for _ in systems]
    for protocol in protocols.values() if on_tokens else ():
        _measure_tokens(on_tokens, protocol, systems, options, measurements, common)
    for metric in metrics:
        if metric.reads == "text":
            common += check_tokenizer(metric.name, metric.signature().get("tok", ""), options.lang)
            parts = _make_signature(metric, first, options)
            for segments, measured in zip(systems, measurements, strict=True):
                statistics = metric.statistics(segments.hypotheses, segments.references)
                measured.append(Measurement(metric=metric, statistics=statistics, parts=parts))
    resampling = Resampling(num_samples=options.bootstrap, seed=options.seed, level=options.level)
    reports = []
    for segments, (_, changes), measured, name in zip(systems, normalised, measurements, names, strict=True):
        differences = _find_differences(segments, measured, options)
        warnings = [*segments.warnings, *changes, *common, *(one.message for one in differences)]
        reports.append(
            make_report(
                measured,
                ids=segments.ids,
                warnings=warnings,
                resampling=resampling,
                source=name,
                differences=differences,
                segments=segments,
            )
        )
    return tuple(reports)


def _find_differences(
    segments: SegmentTexts, measured: Sequence[Measurement], options: ScoreOptions
) -> list[FormWarning]:
    return find_differences(
        segments.hypotheses,
        list(chain.from_iterable(segments.references)),
        language=options.lang,
        spaces=find_scored_language(options.lang).spaces,
        cased=any(one.parts["case"] == "mixed" for one in measured if "case" in one.parts),
    )


def _normalise(segments: SegmentTexts, names: Sequence[str]) -> tuple[SegmentTexts, list[str]]:
    """Apply the named changes to both sides; return a note on how many texts they changed."""
    if not names:
        return segments, []
    hypotheses = normalise_texts(segments.hypotheses, names)
    references = [normalise_texts(texts, names) for texts in (*segments.references, *segments.all_references)]
    num_hypotheses = sum(one != other for one, other in zip(hypotheses, segments.hypotheses, strict=True))
    num_references = sum(
        one != other
        for new, old in zip(references, segments.references, strict=False)
        for one, other in zip(new, old, strict=True)
    )
    scored = len(segments.references)
    changed = replace(
        segments,
        hypotheses=hypotheses,
        references=tuple(references[:scored]),
        all_references=tuple(references[scored:]),
    )
    total = sum(map(len, segments.references))
    return changed, [
        f"normalise {','.join(names)} changed {num_hypotheses:,} of {len(hypotheses):,} predictions and "
        f"{num_references:,} of {total:,} references"
    ]


def _make_metric(name: str, options: ScoreOptions, segments: SegmentTexts, sources: Sequence[str]) -> Metric:
    """Make a metric with its options. CIDEr gets its document frequencies later, when there are tokens."""
    name, given = _ALIASES.get(name, (name, {}))
    entry = find_scored_language(options.lang)
    if name == "sacrebleu":
        by_language = _SACREBLEU_TOKENIZERS.get(entry.code, "13a" if entry.spaces else "char")
        given = {"tokenize": options.sacrebleu_tokenize or by_language}
    elif name == "cider":
        given = {"df_resampled": options.df_resampled}
    elif name == "meteor":
        given = {"jar": options.meteor_jar, "language": _METEOR_LANGUAGES.get(entry.code, "other")}
    elif name == "language":
        given = {"language": entry.code}
    elif name == "external":
        given = {"command": options.external, "score_name": options.external_name}
        given |= {"ids": tuple(map(str, segments.ids)), "sources": tuple(sources)}
    return make_metric(name, **given)


def _measure_tokens(
    metrics: Sequence[Metric],
    protocol: ScoringProtocol,
    systems: Sequence[SegmentTexts],
    options: ScoreOptions,
    measurements: Sequence[list[Measurement]],
    warnings: list[str],
) -> None:
    """Add measurements of the metrics that read a protocol's tokens to those of each system."""
    tokenizer = protocol.make_tokenizer(options.lang)
    warnings += check_tokenizer(", ".join(one.name for one in metrics), tokenizer.name, options.lang)
    first = systems[0]
    references = _tokenize_references(first.references, tokenizer)
    tokens = {
        "proto": protocol.name,
        "tok": f"{tokenizer.name}-{tokenizer.version}",
        "case": protocol.case(options.lang),
    }
    ready = [
        _set_document_frequency(metric, options.df, first, tokenizer) if metric.name == "cider" else metric
        for metric in metrics
    ]
    parts = [_make_signature(metric, first, options, tokens, factor=protocol.factor) for metric in ready]
    for segments, measured in zip(systems, measurements, strict=True):
        hypotheses = tokenizer.tokenize(segments.hypotheses)
        for metric, signature in zip(ready, parts, strict=True):
            statistics = metric.statistics(hypotheses, references)
            measured.append(Measurement(metric=metric, statistics=statistics, parts=signature, factor=protocol.factor))


def _set_document_frequency(cider: Metric, df: str, segments: SegmentTexts, tokenizer: Tokenizer) -> Metric:
    from polyglance.evaluate.metrics.cider import Cider

    assert isinstance(cider, Cider)
    if df == "references":
        return cider
    if df != "all":
        return replace(cider, df=DocumentFrequency.load(df))
    references = _tokenize_references(segments.all_references, tokenizer)
    return replace(cider, df=DocumentFrequency.count(references, name="all"))


def _tokenize_references(references: Sequence[Sequence[str]], tokenizer: Tokenizer) -> list[list[str]]:
    """Tokenise all references in one call: a tokeniser reuses what it has seen in the call."""
    tokens = iter(tokenizer.tokenize(list(chain.from_iterable(references))))
    return [[next(tokens) for _ in texts] for texts in references]


def _make_signature(
    metric: Metric,
    segments: SegmentTexts,
    options: ScoreOptions,
    tokens: Mapping[str, str] = MappingProxyType({}),
    *,
    factor: float = 1.0,
) -> dict[str, str]:
    """Collect everything that changes the score, in a fixed order: tokens, data, then the metric's parts.

    Args:
        tokens: `proto`, `tok` and `case` of the protocol; empty for metrics that read texts as they are.
        factor: the protocol's.
    """
    of_metric = dict(metric.signature())
    num_references = sum(map(len, segments.references))
    first = {key: of_metric.pop(key, tokens.get(key)) for key in ("tok", "df", "case")}
    parts = {
        "proto": tokens.get("proto", RAW),
        "tok": first["tok"],
        "lang": options.lang,
        "df": first["df"],
        "imgs": str(len(segments.ids)),
        "refs": f"{num_references / len(segments.ids):.5g}",
        "case": first["case"],
        "scale": f"0-{metric.scale * factor:g}",
        **{f"{metric.name}-{key}" if key == "lang" else key: value for key, value in of_metric.items()},
        "norm": "+".join(name for name in NORMALISATIONS if name in options.normalise) or None,
        "missing": None if options.missing == "error" else options.missing,
        "duplicates": None if options.duplicates == "error" else options.duplicates,
        "data": _hash_references(segments),
        "version": __version__,
    }
    return {key: value for key, value in parts.items() if value is not None}


def _hash_references(segments: SegmentTexts) -> str:
    """Return 8 hexadecimal digits that change with any id or reference."""
    rows = sorted((str(name), texts) for name, texts in zip(segments.ids, segments.references, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]


def _align_sources(texts: Mapping[str, str], where: str, segments: SegmentTexts) -> tuple[str, ...]:
    """Return the source text of each segment."""
    absent = [str(name) for name in segments.ids if str(name) not in texts]
    if absent:
        raise ValueError(
            f"{where}: {len(absent):,} of {len(segments.ids):,} ids have no source, the first is {absent[0]!r}"
        )
    return tuple(texts[str(name)] for name in segments.ids)
