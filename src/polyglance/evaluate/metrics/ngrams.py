"""Word n-grams of many segments as integers: exact ids (never hashes) and counts, a block of n-grams at a time.

Words are cut at white space by `str.split`, as in pycocoevalcap's CIDEr and BLEU. A block holds the n-grams that begin
with some of the words, so that memory depends on the size of a block and the number of words, not on that of n-grams.
Blocks follow each other in the order of n-grams: sums over blocks add up the same numbers in the same order as one
block of everything.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["NgramCounts", "SegmentWords"]

_BLOCK_WORDS = 300_000
"""Words of the texts that n-grams of one block begin with, unless a single word is more frequent."""


@dataclass(frozen=True, kw_only=True)
class NgramCounts:
    """The n-grams of one length and block in N hypotheses and their R references: one entry per text and different
    n-gram, sorted by text, then n-gram."""

    order: int
    """Words per n-gram."""
    num_grams: int
    """Number of different n-grams of the block; their ids are 0 ... num_grams - 1."""
    places: Int[np.ndarray, "grams"]
    """Position of one occurrence of each n-gram in `SegmentWords.words`."""
    hypothesis: Int[np.ndarray, "H"]
    """Hypothesis (of N) of each entry of hypotheses."""
    hypothesis_gram: Int[np.ndarray, "H"]
    hypothesis_count: Float[np.ndarray, "H"]
    reference: Int[np.ndarray, "E"]
    """Reference (of R) of each entry of references."""
    reference_gram: Int[np.ndarray, "E"]
    reference_count: Float[np.ndarray, "E"]
    count_in_hypothesis: Float[np.ndarray, "E"]
    """Count of the n-gram in the hypothesis that the reference belongs to; often 0."""
    segment_of_entry: Int[np.ndarray, "E"]
    """Segment (of N) that the reference belongs to."""

    def in_references(self) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
        """Return the distinct pairs of a segment and an n-gram in one of its references, sorted."""
        num_grams = max(self.num_grams, 1)
        keys = np.sort(self.segment_of_entry * num_grams + self.reference_gram)
        segments, grams = np.divmod(keys[_is_first(keys)], num_grams)
        return segments, grams

    def document_frequency(self) -> Int[np.ndarray, "grams"]:
        """Count the segments whose references hold each n-gram."""
        return np.bincount(self.in_references()[1], minlength=self.num_grams)


@dataclass(frozen=True, kw_only=True)
class SegmentWords:
    """The words of N hypotheses, then those of their R references, one after another."""

    vocabulary: Sequence[str]
    """The different words; a word's id is its place here."""
    words: Int[np.ndarray, "words"]
    lengths: Int[np.ndarray, "texts"]
    """Words per text, N + R of them."""
    num_segments: int
    segment_of_reference: Int[np.ndarray, "R"]
    """Ascending: references of one segment stand together."""
    first_reference: Int[np.ndarray, "N"]
    """Place of the first reference of each segment."""

    @classmethod
    def from_texts(cls, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> "SegmentWords":
        """Cut N hypotheses and their references (checked by `check_segments` before) into words."""
        ids: defaultdict[str, int] = defaultdict()
        ids.default_factory = ids.__len__  # a new word's id is the number of words before it
        words, lengths = array("i"), array("i")
        for text in chain(hypotheses, *references):
            split = text.split()
            lengths.append(len(split))
            words.extend(map(ids.__getitem__, split))
        num_references = np.array([len(texts) for texts in references], dtype=np.int64)
        return cls(
            vocabulary=list(ids),
            words=np.frombuffer(words, dtype=np.int32),
            lengths=np.array(lengths, dtype=np.int64),
            num_segments=len(hypotheses),
            segment_of_reference=np.repeat(np.arange(len(hypotheses)), num_references),
            first_reference=np.cumsum(num_references) - num_references,
        )

    @property
    def hypothesis_lengths(self) -> Int[np.ndarray, "N"]:
        """Words of each hypothesis."""
        return self.lengths[: self.num_segments]

    @property
    def reference_lengths(self) -> Int[np.ndarray, "R"]:
        """Words of each reference."""
        return self.lengths[self.num_segments :]

    def spell(self, ngrams: NgramCounts) -> list[str]:
        """Return the n-grams as words joined by spaces, by id."""
        spans = ngrams.places[:, None] + np.arange(ngrams.order)
        return [" ".join([self.vocabulary[word] for word in span]) for span in self.words[spans].tolist()]

    def count_ngrams(self, max_order: int) -> Iterator[NgramCounts]:
        """Count the n-grams of 1, 2, ... `max_order` words of each block."""
        ends = np.cumsum(self.lengths)
        text_of_word = np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)
        blocks = self._cut_blocks()
        for first, last in blocks:
            if len(blocks) == 1:
                starts = np.arange(len(self.words))
            else:
                starts = np.flatnonzero((self.words >= first) & (self.words < last))
            texts = text_of_word[starts].astype(np.int64)
            words_left = ends[texts] - starts
            # The id, within the block, of the n-gram that begins at each start.
            grams, num_grams = self.words[starts].astype(np.int64) - first, last - first
            for order in range(1, max_order + 1):
                if order > 1:
                    kept = words_left >= order
                    starts, texts, words_left, grams = starts[kept], texts[kept], words_left[kept], grams[kept]
                    # An n-gram is the (n - 1)-gram that begins it and its last word: a pair, packed without loss.
                    grams, num_grams = _rank(grams * len(self.vocabulary) + self.words[starts + order - 1])
                places = np.empty(num_grams, dtype=np.int64)
                places[grams] = starts
                yield self._count(order, places, texts, grams)

    def _cut_blocks(self) -> list[tuple[int, int]]:
        """Cut the vocabulary into ranges of words (first, last + 1) whose n-grams are counted together."""
        ends = np.cumsum(np.bincount(self.words, minlength=len(self.vocabulary)))
        blocks, first, done = [], 0, 0
        while first < len(self.vocabulary):
            last = max(int(np.searchsorted(ends, done + _BLOCK_WORDS, side="right")), first + 1)
            blocks.append((first, last))
            first, done = last, int(ends[last - 1])
        return blocks or [(0, 0)]

    def _count(
        self,
        order: int,
        places: Int[np.ndarray, "grams"],
        texts: Int[np.ndarray, "occurrences"],
        grams: Int[np.ndarray, "occurrences"],
    ) -> NgramCounts:
        """Count the occurrences of n-grams of one length: text and n-gram of each."""
        num_grams = max(len(places), 1)
        occurrences = np.sort(texts * num_grams + grams)
        first = np.flatnonzero(_is_first(occurrences))
        keys, counts = occurrences[first], np.diff(first, append=len(occurrences))
        num_hypothesis = int(np.searchsorted(keys, self.num_segments * num_grams))
        hypothesis_keys = keys[:num_hypothesis]
        hypothesis_counts = counts[:num_hypothesis].astype(np.float64)
        reference, gram = np.divmod(keys[num_hypothesis:] - self.num_segments * num_grams, num_grams)
        segment = self.segment_of_reference[reference]
        # Look up each reference's n-gram among those of its hypothesis, which are sorted.
        key_in_hypothesis = segment * num_grams + gram
        place = np.searchsorted(hypothesis_keys, key_in_hypothesis)
        in_hypothesis = np.append(hypothesis_keys, -1)[place] == key_in_hypothesis
        return NgramCounts(
            order=order,
            num_grams=len(places),
            places=places,
            hypothesis=hypothesis_keys // num_grams,
            hypothesis_gram=hypothesis_keys % num_grams,
            hypothesis_count=hypothesis_counts,
            reference=reference,
            reference_gram=gram,
            reference_count=counts[num_hypothesis:].astype(np.float64),
            count_in_hypothesis=np.where(in_hypothesis, np.append(hypothesis_counts, 0.0)[place], 0.0),
            segment_of_entry=segment,
        )


def _rank(keys: Int[np.ndarray, "K"]) -> tuple[Int[np.ndarray, "K"], int]:
    """Return the rank of each key among the distinct keys, from 0, and the number of distinct keys."""
    by_key = np.argsort(keys)
    is_first = _is_first(keys[by_key])
    ranks = np.empty_like(keys)
    ranks[by_key] = np.cumsum(is_first) - 1
    return ranks, int(is_first.sum())


def _is_first(keys: Int[np.ndarray, "K"]) -> Bool[np.ndarray, "K"]:
    """Mark the sorted keys that differ from their predecessor."""
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return first
