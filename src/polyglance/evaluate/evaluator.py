"""Measurement of models on held-out data: losses per cell, and captions with their scores. The data is read once."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.data.world import GRAMMARS, MIN_IMAGE_SIZE, AmbiguousPair, find_world_level, make_ambiguous_pair
from polyglance.distributed import Runtime
from polyglance.evaluate.caption import generate_greedily, score_captions, score_translations
from polyglance.evaluate.cells import CellSamples, choose_cells, choose_variants, read_held_out
from polyglance.evaluate.disambiguation import measure_disambiguation
from polyglance.evaluate.loss import measure_cell
from polyglance.language_identity import LanguageIdentifier
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.mixture.tokenizer import choose_writable
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor
from polyglance.run_records import CaptionScores, CellRecord, GeneratedCaption, Variant

__all__ = ["Evaluator"]


class Evaluator:
    """Measures the models of one study on the same held-out samples.

    Several processes can share the losses: all of them ask for the same losses at the same time, and each gets all.

    Args:
        test_dir: held-out data set.
        train_dir: training data set; the language identifier counts n-grams in its texts.
        processor: processor of the models.
        prefixes: language code -> prefix; a language without a prefix, or with one that the processor's tokenizer
            cannot encode, is measured and captioned without one.
        max_source_tokens: prompts are cut to this length, as in training.
        max_target_tokens: targets are cut to this length, as in training.
        samples_per_cell: held-out samples of each cell for its loss.
        captions_per_cell: images of each caption cell that are captioned.
        translations_per_cell: samples of each translation cell that are translated.
        ambiguous_per_cell: ambiguous sentences of each translation cell, where the data is the built-in world's.
        examples: captions of each cell, with and without prefix, that are returned as examples.
        max_new_tokens: captions are cut to this length.
        num_shares: shares that each batch of samples is measured in, a multiple of the processes; None: as many as
            processes. The digits depend on it, not on the processes.

    Raises:
        ValueError: the test data has no cell of UC.
    """

    def __init__(
        self,
        coverage: Coverage,
        test_dir: Path,
        train_dir: Path,
        processor: Processor,
        *,
        prefixes: Mapping[str, str],
        max_source_tokens: int,
        max_target_tokens: int,
        samples_per_cell: int,
        captions_per_cell: int,
        translations_per_cell: int,
        ambiguous_per_cell: int,
        examples: int,
        max_new_tokens: int,
        num_shares: int | None = None,
    ) -> None:
        reader = ShardReader(test_dir)
        self.coverage = coverage
        self.processor = processor
        self.prefixes = choose_writable(processor.decoder_tokenizer, prefixes)
        self._samples = read_held_out(
            reader,
            choose_cells(coverage, reader.manifest.rows_per_cell),
            image_size=processor.config.image_size,
            samples_per_cell=samples_per_cell,
        )
        self._level = find_world_level(reader.manifest.source)
        self._train_dir = train_dir
        self._limits = {"max_source_tokens": max_source_tokens, "max_target_tokens": max_target_tokens}
        self._texts_per_cell = {"caption": captions_per_cell, "translation": translations_per_cell}
        self._ambiguous_per_cell = ambiguous_per_cell
        self._examples = examples
        self._max_new_tokens = max_new_tokens
        self._num_shares = num_shares

    def measure(self, model: Polyglance, runtime: Runtime | None = None) -> dict[Cell, CellRecord]:
        """Measure every trained and every unseen cell: captions in all variants that their language has, translations
        in `plain` alone."""
        variants = {
            s.cell: choose_variants(s.cell, self.prefixes) if s.cell.task == "caption" else ("plain",)
            for s in self._samples
        }
        return self._measure(model, variants, runtime)

    def measure_plain(self, model: Polyglance, runtime: Runtime | None = None) -> dict[Cell, CellRecord]:
        """Measure the same cells in `plain` alone, which UC, ST and SC are taken from."""
        return self._measure(model, {s.cell: ("plain",) for s in self._samples}, runtime)

    def measure_initial(self, model: Polyglance, runtime: Runtime | None = None) -> dict[Cell, CellRecord]:
        """Measure the unseen cells of an untrained model, which T is taken from, with and without prefix."""
        unseen = self.coverage.split("UC")
        variants = {cell: choose_variants(cell, self.prefixes, with_shuffled=False) for cell in unseen}
        return self._measure(model, variants, runtime)

    def _measure(
        self, model: Polyglance, variants: Mapping[Cell, Sequence[Variant]], runtime: Runtime | None
    ) -> dict[Cell, CellRecord]:
        records = {}
        for samples in self._samples:
            if samples.cell in variants:
                losses = measure_cell(
                    model,
                    self.processor,
                    samples,
                    prefix=self.prefixes.get(samples.cell.language, ""),
                    **self._limits,
                    variants=variants[samples.cell],
                    runtime=runtime,
                    num_shares=self._num_shares,
                )
                records[samples.cell] = CellRecord(split=self.coverage.split_of(samples.cell), losses=losses)
        return records

    def generate(
        self, model: Polyglance, runtime: Runtime | None = None
    ) -> tuple[list[GeneratedCaption], dict[Cell, dict[Variant, CaptionScores]]]:
        """Generate held-out texts greedily: captions of every caption cell with and without prefix, and translations.

        Args:
            model: undivided; texts end at different tokens in the processes.
            runtime: the processes that share the samples; None: this process alone.

        Returns:
            The first captions of each cell, as examples; and cell -> `plain` and, for captions, `prefix` -> scores.
            Empty in all processes but the first.
        """
        runtime = runtime or Runtime.single()
        kept: list[GeneratedCaption] = []
        scores: dict[Cell, dict[Variant, CaptionScores]] = {}
        for samples in (s[: self._texts_per_cell[s.cell.task]] for s in self._samples):
            if not len(samples) or (samples.cell.task == "translation" and samples.cell.language == SOURCE_LANGUAGE):
                continue
            code, is_caption = samples.cell.language, samples.cell.task == "caption"
            starts: dict[Variant, str] = {"plain": ""}
            if is_caption and self.prefixes.get(code):
                starts["prefix"] = self.prefixes[code]
            for variant, prefix in starts.items():
                texts = self._generate_cell(model, samples, prefix, runtime)
                if not runtime.is_main:
                    continue
                scores.setdefault(samples.cell, {})[variant] = self._score(samples, texts)
                if is_caption:
                    kept += [
                        GeneratedCaption(key=key, language=code, prefix=prefix, caption=text, reference=annotation.text)
                        for key, text, annotation in zip(samples.keys, texts, samples.annotations, strict=True)
                    ][: self._examples]
        return kept, scores

    def _score(self, samples: CellSamples, texts: list[str]) -> CaptionScores:
        code, references = samples.cell.language, [annotation.text for annotation in samples.annotations]
        if samples.cell.task == "caption":
            return score_captions(texts, references, code, self._identifier, in_world=self._level is not None)
        return score_translations(texts, references, code, self._identifier)

    def _generate_cell(self, model: Polyglance, samples: CellSamples, prefix: str, runtime: Runtime) -> list[str]:
        """Generate the texts of a cell, each share every n-th of them; all processes return all texts."""
        num_shares = self._num_shares or runtime.world_size
        texts = []
        for number in range(runtime.rank, num_shares, runtime.world_size):
            share = samples[number::num_shares]
            texts.append(self._generate_share(model, share, prefix) if len(share) else [])
        gathered = runtime.gather(texts)
        shares = [of_process[turn] for turn in range(len(texts)) for of_process in gathered]
        return [shares[row % num_shares][row // num_shares] for row in range(len(samples))]

    def _generate_share(self, model: Polyglance, share: CellSamples, prefix: str) -> list[str]:
        return generate_greedily(model, self.processor, share, prefix=prefix, max_new_tokens=self._max_new_tokens)

    def disambiguate(self, model: Polyglance) -> dict[Cell, float]:
        """Return translation cell -> share of ambiguous sentences whose right translation, given the image, costs less;
        in one process.

        Empty where the data is not the built-in world's, or its images are too small to be drawn.
        """
        cells = [cell for cell in self.coverage.split("ST") if cell.language in GRAMMARS]
        if self._level is None or not self._ambiguous or self.processor.config.image_size < MIN_IMAGE_SIZE:
            return {}
        return {
            cell: measure_disambiguation(model, self.processor, self._ambiguous, cell.language, **self._limits)
            for cell in cells
        }

    @cached_property
    def _ambiguous(self) -> list[AmbiguousPair]:
        assert self._level is not None
        return [make_ambiguous_pair(self._level, seed=0, index=index) for index in range(self._ambiguous_per_cell)]

    @cached_property
    def _identifier(self) -> LanguageIdentifier:
        table = ShardReader(self._train_dir).annotations()
        return LanguageIdentifier(self.coverage.languages, zip(table.language, table.text, strict=True))
