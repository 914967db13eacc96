"""Checks of predictions and references before they are scored.

What would make the score wrong is refused with a `ValueError`; what a reader of the score has to know is a warning.
Both are one line. Each check finds a mistake that other tools accept silently: shifted lines, transposed or swapped
arguments, CIDEr of one image, document frequencies of a subset, words in a language without spaces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from polyglance.data.texts.text_set import Id, TextSet
from polyglance.evaluate.align import align_ids
from polyglance.evaluate.scored_languages import find_scored_language
from polyglance.evaluate.tokenization.normalise import has_line_break, without_line_breaks

__all__ = [
    "Duplicates",
    "Missing",
    "SegmentTexts",
    "check_benchmark_size",
    "check_document_frequency",
    "check_tokenizer",
    "keep_common",
    "pair_texts",
]

Missing = Literal["error", "empty", "drop"]
"""Treatment of ids that only one side has. `error`: refuse. `empty`: a missing prediction counts as an empty text.
`drop`: score the ids that both have."""
Duplicates = Literal["error", "first", "last"]
"""Treatment of ids that have several different predictions. Equal predictions count once."""

_FEW_IMAGES = 1000
"""Below this number of images, CIDEr depends strongly on document frequencies: the first 100 of 5,000 COCO images score
1.032 with their own frequencies and 0.896 with those of all images."""


@dataclass(frozen=True, kw_only=True)
class SegmentTexts:
    """Predictions matched to their references, ready to be tokenised: no text holds a line break."""

    ids: tuple[Id, ...]
    """Ids as the references spell them, in their order."""
    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    """References of each id; never empty."""
    all_references: Sequence[Sequence[str]]
    """References of every id of the reference file, scored or not."""
    warnings: tuple[str, ...]


def pair_texts(
    hypotheses: TextSet,
    references: TextSet,
    *,
    ids: Sequence[str] | None = None,
    missing: Missing = "error",
    duplicates: Duplicates = "error",
) -> SegmentTexts:
    """Match each prediction with its references.

    Args:
        ids: ids to score; None: all of the references'.
        missing: treatment of ids that only one side has.
        duplicates: treatment of ids that have several different predictions.

    Raises:
        ValueError: swapped or transposed arguments, ids missing, unknown or repeated, none in common, or lines that do
            not fit each other: one line, with the first few.
    """
    _check_not_swapped(hypotheses, references)
    _check_not_transposed(hypotheses, references)
    hypotheses, joined = align_ids(hypotheses, references)
    warnings = [*hypotheses.notes, *references.notes, *joined]
    predicted, expected = hypotheses.by_id(), references.by_id()
    if unknown := [name for name in ids or () if name not in expected]:
        raise ValueError(f"{references.source}: {_count(unknown)} to be scored, but not in the file")
    wanted = list(expected) if ids is None else list(dict.fromkeys(ids))
    warnings += _check_duplicates(predicted, wanted, hypotheses.source, duplicates)
    warnings += _check_ids(predicted, wanted, hypotheses, references, missing)
    extra = [name for name in predicted if name not in expected]
    if extra:
        message = f"{hypotheses.source}: {_count(extra)} not in {references.source}"
        if ids is None and missing == "error":
            raise ValueError(f"{message}; --missing drop leaves them out")
        warnings.append(f"{message}; left out")
    if not any(name in predicted for name in wanted):
        raise ValueError(f"{hypotheses.source}: none of the {len(wanted):,} ids that are scored is predicted")
    if missing == "drop":
        wanted = [name for name in wanted if name in predicted]
    place = -1 if duplicates == "last" else 0
    given = [predicted[name][place] for name in wanted if name in predicted]
    warnings += _count_empty(given, hypotheses.source, "predictions")
    warnings += _count_empty([text for name in wanted for text in expected[name]], references.source, "references")
    chosen = [predicted.get(name, [""])[place] for name in wanted]
    (cleaned,) = _clean([chosen], hypotheses.source, warnings)
    all_references = _clean(list(expected.values()), references.source, warnings)
    by_id = dict(zip(expected, all_references, strict=True))
    spelled = {str(name): name for name, _ in references.entries}
    return SegmentTexts(
        ids=tuple(spelled[name] for name in wanted),
        hypotheses=cleaned,
        references=tuple(by_id[name] for name in wanted),
        all_references=tuple(all_references),
        warnings=tuple(warnings),
    )


def keep_common(systems: Sequence[SegmentTexts]) -> list[SegmentTexts]:
    """Keep the segments that all systems have, in the references' order, where some were dropped.

    Raises:
        ValueError: they have none in common.
    """
    common = set.intersection(*(set(one.ids) for one in systems))
    if all(len(one.ids) == len(common) for one in systems):
        return list(systems)
    if not common:
        raise ValueError("no id is predicted by all systems")
    kept = []
    for one in systems:
        rows = [row for row, name in enumerate(one.ids) if name in common]
        note = f"the {len(common):,} ids are scored that all {len(systems)} systems have"
        kept.append(
            replace(
                one,
                ids=tuple(one.ids[row] for row in rows),
                hypotheses=tuple(one.hypotheses[row] for row in rows),
                references=tuple(one.references[row] for row in rows),
                warnings=(*one.warnings, note),
            )
        )
    return kept


def check_document_frequency(
    num_segments: int, num_references: int, df: str, num_images: int | None = None
) -> list[str]:
    """Warn where CIDEr's document frequencies come from few images.

    Args:
        num_segments: number of scored images.
        num_references: number of images with references.
        df: `references` where the frequencies come from the scored images, `all` where from all references.
        num_images: number of images that a table of frequencies was made of.

    Raises:
        ValueError: they come from one image only: log(1) = 0, and so is every score.
    """
    count = {"references": num_segments, "all": num_references}.get(df, num_images)
    if count is None:
        return []
    if count <= 1:
        helps = " (--df all)" if df == "references" and num_references > 1 else ""
        raise ValueError(
            "CIDEr of one image is 0 whatever the texts are, since its document frequencies come from that image; "
            f"take them from more images{helps}, or score without CIDEr (--metrics bleu,rouge)"
        )
    if df == "references" and num_segments < num_references:
        return [
            f"CIDEr's document frequencies come from the {num_segments:,} scored of {num_references:,} images; the "
            "score is not comparable with that of the whole set (--df all takes them from every reference)"
        ]
    if count < _FEW_IMAGES:
        return [
            f"CIDEr's document frequencies come from {count:,} images only; the score depends on the size "
            "of the set and is comparable only with scores of the same images"
        ]
    return []


def check_tokenizer(metric: str, tokenizer: str, language: str) -> list[str]:
    """Warn where the tokens that a metric counts are not words of the language."""
    entry = find_scored_language(language)
    if entry.spaces or tokenizer not in ("ptb", "whitespace", "13a", "intl", "none"):
        return []
    return [
        f"{metric} on {tokenizer!r} tokens means little in {entry.name}, which writes no spaces between words: "
        f"whole sentences are single words; use characters or a word segmenter"
    ]


def check_benchmark_size(benchmark: str, num_segments: int) -> list[str]:
    """Warn where the number of segments is not that of a test split of the benchmark.

    Raises:
        ValueError: there is no such benchmark, or its size is not fixed.
    """
    from polyglance.data.benchmarks import find_benchmark  # loads pyarrow, which scoring does without

    known = find_benchmark(benchmark)
    tests = [split for split in known.splits if split.startswith("test")] or known.splits[:1]
    published = [known.num_examples(split, language) for split in tests for language in known.languages(split)]
    sizes = {size for size in published if size is not None}
    if not sizes:
        raise ValueError(f"{benchmark} has no fixed size that the number of segments could be compared with")
    if num_segments in sizes:
        return []
    right = " or ".join(f"{size:,}" for size in sorted(sizes, reverse=True))
    return [f"{num_segments:,} segments were scored, but a test split of {benchmark} has {right}"]


def _check_not_swapped(hypotheses: TextSet, references: TextSet) -> None:
    """Refuse predictions with several different texts for most ids, if no reference has several."""
    predicted = hypotheses.by_id()
    num_several = sum(len(set(texts)) > 1 for texts in predicted.values())
    if 2 * num_several > len(predicted) and not any(len(texts) > 1 for texts in references.by_id().values()):
        raise ValueError(
            f"predictions and references look swapped: {hypotheses.source} holds several texts per id, "
            f"{references.source} one"
        )


def _check_not_transposed(hypotheses: TextSet, references: TextSet) -> None:
    num_hypotheses, streams = len(hypotheses.by_id()), references.by_id()
    if len(streams) != num_hypotheses > 1 and all(len(texts) == num_hypotheses for texts in streams.values()):
        raise ValueError(
            f"{references.source}: references look transposed, {len(streams)} entries of {num_hypotheses:,} texts; "
            f"expected one entry for each of the {num_hypotheses:,} ids, with the references of that id"
        )
    if hypotheses.layout == references.layout == "lines":
        times, rest = divmod(len(streams), num_hypotheses)
        if times > 1 and not rest:
            raise ValueError(
                f"{references.source}: {times} times as many lines as {hypotheses.source}, which looks like {times} "
                "references of each text in one file; give one file for each (--refs A --refs B)"
            )


def _check_duplicates(
    predicted: Mapping[str, Sequence[str]], wanted: Sequence[str], source: str, duplicates: Duplicates
) -> list[str]:
    """Refuse wanted ids that have different predictions, or warn of them where `duplicates` allows it."""
    repeated = [name for name in wanted if len(predicted.get(name, ())) > 1]
    different = [name for name in repeated if len(set(predicted[name])) > 1]
    if not repeated:
        return []
    if not different:
        return [f"{source}: {_count(repeated)} predicted more than once with the same text; it counts once"]
    message = f"{source}: {_count(different)} predicted more than once, with different texts"
    if duplicates == "error":
        raise ValueError(f"{message}; --duplicates first or last takes one of them")
    return [f"{message}; the {duplicates} is scored"]


def _check_ids(
    predicted: Mapping[str, Sequence[str]],
    wanted: Sequence[str],
    hypotheses: TextSet,
    references: TextSet,
    missing: Missing,
) -> list[str]:
    """Refuse wanted ids that are not predicted, or warn of them where `missing` allows it."""
    absent = [name for name in wanted if name not in predicted]
    if not absent:
        return []
    message = f"{hypotheses.source}: {_count(absent)} missing of the {len(wanted):,} in {references.source}"
    if missing == "error":
        raise ValueError(f"{message}; --missing empty scores them as empty texts, --missing drop leaves them out")
    return [f"{message}; {'scored as empty texts' if missing == 'empty' else 'left out'}"]


def _count_empty(texts: Sequence[str], source: str, kind: str) -> list[str]:
    num_empty = sum(not text.strip() for text in texts)
    return [f"{source}: {num_empty:,} of {len(texts):,} {kind} are empty"] if num_empty else []


def _clean(groups: Sequence[Sequence[str]], source: str, warnings: list[str]) -> list[tuple[str, ...]]:
    """Replace line breaks by spaces, and lone surrogates, which UTF-8 cannot encode, by U+FFFD. Warn of both."""
    num_broken = sum(has_line_break(text) for texts in groups for text in texts)
    if num_broken:
        warnings.append(
            f"{source}: {num_broken:,} texts hold line-break characters (such as U+2028, CR, FF, VT); they count as "
            "spaces here, and shift all later texts in tools that work line by line"
        )
    cleaned = [tuple(_replace_halves(without_line_breaks(text)) for text in texts) for texts in groups]
    num_halves = sum(
        "\ufffd" in new and "\ufffd" not in old
        for olds, news in zip(groups, cleaned, strict=True)
        for old, new in zip(olds, news, strict=True)
        if new is not old
    )
    if num_halves:
        warnings.append(f"{source}: {num_halves:,} texts hold halves of surrogate pairs, which are replaced by U+FFFD")
    return cleaned


def _replace_halves(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def _count(names: Sequence[str]) -> str:
    """Return `2 ids (7, 9)`: how many, and the first few."""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names):,} {'id' if len(names) == 1 else 'ids'} ({shown})"
