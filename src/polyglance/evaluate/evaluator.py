"""Measurement of models on held-out data that is read once: losses per cell, and captions with their scores."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.evaluate.caption import caption_greedily, score_captions
from polyglance.evaluate.cells import CellSamples, choose_cells, read_held_out
from polyglance.evaluate.loss import measure_cell
from polyglance.language_identity import LanguageIdentifier
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor
from polyglance.run_records import VARIANTS, CaptionScores, CellRecord, GeneratedCaption, Variant

__all__ = ["Evaluator"]


class Evaluator:
    """Measures the models of one study on the same held-out samples.

    The losses can be shared by several processes: all of them then ask for the same losses at the same time, and each
    gets all of them.

    Args:
        test_dir: held-out data set.
        train_dir: training data set; its texts show the identifier of languages how they look in this data.
        processor: processor of the models.
        prefixes: language code -> prefix.
        max_source_tokens: prompts are cut to this length, as in training.
        max_target_tokens: targets are cut to this length, as in training.
        samples_per_cell: held-out samples of each cell for its loss.
        captions_per_cell: images of each caption cell that are captioned.
        examples: captions of each cell, with and without prefix, that are returned as examples.
        max_new_tokens: captions are cut to this length.

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
        examples: int,
        max_new_tokens: int,
    ) -> None:
        reader = ShardReader(test_dir)
        self.coverage = coverage
        self.processor = processor
        self.prefixes = prefixes
        self._samples = read_held_out(
            reader,
            choose_cells(coverage, reader.manifest.rows_per_cell),
            image_size=processor.config.image_size,
            samples_per_cell=samples_per_cell,
        )
        self._in_world = reader.manifest.source.startswith("polyglance world")
        self._train_dir = train_dir
        self._limits = {"max_source_tokens": max_source_tokens, "max_target_tokens": max_target_tokens}
        self._captions_per_cell = captions_per_cell
        self._examples = examples
        self._max_new_tokens = max_new_tokens

    def measure(self, model: Polyglance, runtime: Runtime | None = None) -> dict[Cell, CellRecord]:
        """Measure every trained and every unseen cell: captions in all variants, translations in `plain` alone."""
        variants = {s.cell: VARIANTS if s.cell.task == "caption" else VARIANTS[:1] for s in self._samples}
        return self._measure(model, variants, runtime)

    def measure_plain(self, model: Polyglance, runtime: Runtime | None = None) -> dict[Cell, CellRecord]:
        """Measure the same cells in `plain` alone, which UC, ST and SC are taken from."""
        return self._measure(model, {s.cell: ("plain",) for s in self._samples}, runtime)

    def measure_initial(self, model: Polyglance, runtime: Runtime | None = None) -> dict[Cell, CellRecord]:
        """Measure the unseen cells of an untrained model, which T is taken from, with and without prefix."""
        return self._measure(model, dict.fromkeys(self.coverage.split("UC"), ("plain", "prefix")), runtime)

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
                )
                records[samples.cell] = CellRecord(split=self.coverage.split_of(samples.cell), losses=losses)
        return records

    def caption(
        self, model: Polyglance, runtime: Runtime | None = None
    ) -> tuple[list[GeneratedCaption], dict[Cell, dict[Variant, CaptionScores]]]:
        """Caption the held-out images greedily, for every caption cell with and without prefix.

        Args:
            model: undivided; texts end at different tokens in the processes.
            runtime: the processes that share the images; None: this process alone.

        Returns:
            The first captions of each cell, as examples; and cell -> `plain` and `prefix` -> scores. Empty in all
            processes but the first.
        """
        runtime = runtime or Runtime.single()
        kept: list[GeneratedCaption] = []
        scores: dict[Cell, dict[Variant, CaptionScores]] = {}
        for samples in (s.first(self._captions_per_cell) for s in self._samples if s.cell.task == "caption"):
            code = samples.cell.language
            references = [annotation.text for annotation in samples.annotations]
            starts: dict[Variant, str] = {"plain": "", "prefix": self.prefixes.get(code, "")}
            for variant, prefix in starts.items():
                captions = self._caption_cell(model, samples, prefix, runtime)
                if not runtime.is_main:
                    continue
                score = score_captions(captions, references, code, self._identifier, in_world=self._in_world)
                scores.setdefault(samples.cell, {})[variant] = score
                kept += [
                    GeneratedCaption(key=key, language=code, prefix=prefix, caption=caption, reference=reference)
                    for key, caption, reference in zip(samples.keys, captions, references, strict=True)
                ][: self._examples]
        return kept, scores

    def _caption_cell(self, model: Polyglance, samples: CellSamples, prefix: str, runtime: Runtime) -> list[str]:
        """Caption the images of a cell, each process every n-th of them; all processes return all captions."""
        share = samples.share(runtime.rank, runtime.world_size)
        captions = []
        if share.keys:
            captions = caption_greedily(
                model, self.processor, share, prefix=prefix, max_new_tokens=self._max_new_tokens
            )
        shares = runtime.gather(captions)
        return [shares[row % runtime.world_size][row // runtime.world_size] for row in range(len(samples.keys))]

    @cached_property
    def _identifier(self) -> LanguageIdentifier:
        table = ShardReader(self._train_dir).annotations()
        return LanguageIdentifier(self.coverage.languages, zip(table.language, table.text, strict=True))
