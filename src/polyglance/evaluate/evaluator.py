"""Everything that is measured of one model, on data that is read once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.evaluate.caption import greedy_captions, score_captions
from polyglance.evaluate.cells import CellSamples, evaluated_cells, held_out_samples
from polyglance.evaluate.language_id import LanguageIdentifier
from polyglance.evaluate.loss import ALONE, VARIANTS, Processes, cell_losses, losses_to_dict
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor

__all__ = ["Caption", "Evaluator"]


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One generated caption, as captions.jsonl holds it."""

    key: str
    """Image key."""
    language: str
    prefix: str
    """What the decoder was given; empty where it started freely."""
    caption: str
    """The whole text, the prefix included."""
    reference: str


class Evaluator:
    """Measures models of one study on the same held-out samples. Several processes can share the measuring of losses:
    each of them then asks for the same losses at the same time, and gets all of them.

    Args:
        test_dir: held-out data set.
        train_dir: the training data; its texts are what languages are told apart by.
        processor: of the models.
        prefixes: language code -> prefix.
        samples_per_cell: held-out samples of each cell for its loss.
        captions_per_cell: images of each caption cell that are captioned.
        examples: captions of each cell, with and without prefix, that are returned as examples.

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
        self._samples = held_out_samples(
            reader,
            evaluated_cells(coverage, reader.manifest.rows_per_cell),
            image_size=processor.config.image_size,
            samples_per_cell=samples_per_cell,
        )
        self._in_world = reader.manifest.source.startswith("polyglance world")
        self._train_dir = train_dir
        self._limits = {"max_source_tokens": max_source_tokens, "max_target_tokens": max_target_tokens}
        self._captions_per_cell = captions_per_cell
        self._examples = examples
        self._max_new_tokens = max_new_tokens

    def losses(self, model: Polyglance, processes: Processes = ALONE) -> dict[str, Any]:
        """Losses of every trained and every unseen cell, as losses.json holds them under `cells`: captions in all
        variants, translations whole and with the right image."""
        variants = {s.cell: VARIANTS if s.cell.task == "caption" else ("plain",) for s in self._samples}
        return self._losses(model, variants, processes)

    def plain_losses(self, model: Polyglance, processes: Processes = ALONE) -> dict[str, Any]:
        """Of `losses` the variant that UC, ST and SC are taken from."""
        return self._losses(model, {s.cell: ("plain",) for s in self._samples}, processes)

    def initial_losses(self, model: Polyglance, processes: Processes = ALONE) -> dict[str, Any]:
        """Losses of an untrained model on the unseen cells, which is what T is taken from."""
        return self._losses(model, dict.fromkeys(self.coverage.split("UC"), ("plain", "prefix")), processes)

    def _losses(
        self, model: Polyglance, variants: Mapping[Cell, Sequence[str]], processes: Processes
    ) -> dict[str, Any]:
        losses = {
            str(samples.cell): cell_losses(
                model,
                self.processor,
                samples,
                prefix=self.prefixes.get(samples.cell.language, ""),
                **self._limits,
                variants=variants[samples.cell],
                processes=processes,
            )
            for samples in self._samples
            if samples.cell in variants
        }
        return losses_to_dict(losses, self.coverage)

    def captions(self, model: Polyglance) -> tuple[list[Caption], dict[str, dict[str, Any]]]:
        """Greedy captions of every caption cell: the first few of them, and cell -> `plain` and `prefix` -> scores."""
        kept: list[Caption] = []
        scores: dict[str, dict[str, Any]] = {}
        for samples in (_first(s, self._captions_per_cell) for s in self._samples if s.cell.task == "caption"):
            code = samples.cell.language
            references = [annotation.text for annotation in samples.annotations]
            for name, prefix in (("plain", ""), ("prefix", self.prefixes.get(code, ""))):
                captions = greedy_captions(
                    model, self.processor, samples, prefix=prefix, max_new_tokens=self._max_new_tokens
                )
                score = score_captions(captions, references, code, self._identifier, in_world=self._in_world)
                scores.setdefault(str(samples.cell), {})[name] = asdict(score)
                shown = zip(samples.keys, captions, references, strict=True)
                kept += [
                    Caption(key=key, language=code, prefix=prefix, caption=caption, reference=reference)
                    for key, caption, reference in list(shown)[: self._examples]
                ]
        return kept, scores

    @cached_property
    def _identifier(self) -> LanguageIdentifier:
        table = ShardReader(self._train_dir).annotations()
        languages = set(self.coverage.languages)
        texts = zip(table.language, table.text, strict=True)
        return LanguageIdentifier.fit(dict.fromkeys((code, text) for code, text in texts if code in languages))


def _first(samples: CellSamples, number: int) -> CellSamples:
    return replace(
        samples,
        keys=samples.keys[:number],
        images=samples.images[:number],
        annotations=samples.annotations[:number],
    )
