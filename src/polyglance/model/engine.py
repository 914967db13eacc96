"""Models of this project under evaluation (official code section 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polyglance.coverage import EvaluationTask
from polyglance.engines.config import ModelConfig
from polyglance.engines.devices import choose_compute
from polyglance.engines.folders import folder_digest
from polyglance.engines.prompts import PromptedModel
from polyglance.engines.protocol import Answers, CandidateLosses, Candidates, Failure, Picture, TaskLanguages, TextLoss
from polyglance.languages import LANGUAGES
from polyglance.mixture.collate import IGNORED, find_places, pad
from polyglance.mixture.images import resize_to_square
from polyglance.mixture.prompts import write_prompt
from polyglance.model.config import GenerateConfig
from polyglance.model.generate import PolyglanceCaptioner, load_polyglance
from polyglance.model.processor import Processor, ProcessorConfig, resolve_prefix
from polyglance.model.vision import normalise_pixels

__all__ = ["PolyglanceEngine"]


class PolyglanceEngine(PromptedModel):
    """A folder with a Polyglance and its processor.

    As published: 4 beams, 128 tokens after the prefix, no sequence of 3 tokens twice, texts stripped and their first
    letter upper-cased; the prefix, which only captions have, is cut off. Losses count every token that the decoder
    writes, including the first and the end token.

    Raises:
        ValueError: a folder without its processor, or a resolution that the model does not take.
    """

    languages: TaskLanguages = dict.fromkeys(get_args(EvaluationTask), frozenset(LANGUAGES))

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        config = choose_compute(config)
        self.name = folder.resolve().name
        self._folder, self._config = folder, config
        self._generate = GenerateConfig(beams=config.beams or 4, max_new_tokens=config.max_new_tokens or 128)
        self._image_size = config.resolution or ProcessorConfig.read(folder).image_size

    @classmethod
    def for_evaluation(cls, where: str, config: ModelConfig) -> "PolyglanceEngine":
        """Open the model in the folder `where`."""
        return cls(Path(where), config)

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:
        if task == "caption":
            return write_prompt("caption", language)
        return write_prompt("translation", language, source=source)

    def settings(self, task: EvaluationTask) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "weights": self._digest,
            "dtype": self._config.dtype,
            "resolution": self._image_size,
        }
        if task != "disambiguation":
            settings |= {
                "beams": self._generate.beams,
                "max_new_tokens": self._generate.max_new_tokens,
                "no_repeat_ngram_size": self._generate.no_repeat_ngram_size,
                "output": "prefix cut, stripped, first letter upper-cased",
            }
        return settings

    def facts(self, task: EvaluationTask, language: str) -> Mapping[str, Any]:
        facts = super().facts(task, language)
        return facts if task == "disambiguation" else {**facts, "prefix": self._prefix(task, language)}

    def write_captions(self, images: Sequence[Picture], language: str) -> Answers:
        prompts = [self.prompt("caption", language)] * len(images)
        return self._write(images, prompts, self._prefix("caption", language))

    def answer(self, images: Sequence[Picture], prompts: Sequence[str]) -> Answers:
        return self._write(images, prompts, "")

    @torch.no_grad()
    def measure_losses(
        self, images: Sequence[Picture], sources: Sequence[str], candidates: Candidates, language: str
    ) -> CandidateLosses:
        prompts = [self.prompt("disambiguation", language, source) for source in sources]
        answers, rows = self._refuse(prompts, candidates)
        if rows:
            features = self._features([images[row] for row in rows])
            losses = self._losses(features, [prompts[row] for row in rows], [candidates[row] for row in rows])
            answers |= dict(zip(rows, losses, strict=True))
        return [answers[row] for row in range(len(prompts))]

    @cached_property
    def _digest(self) -> str:
        return folder_digest(self._folder)

    @cached_property
    def captioner(self) -> PolyglanceCaptioner:
        """The model and its processor, for images of the asked resolution."""
        model = load_polyglance(self._folder).to(device=self._config.device, dtype=getattr(torch, self._config.dtype))
        size, config = self._image_size, model.config
        if config.vision_config.model_type != "florence_vision" and size != config.image_size:
            raise ValueError(f"{self.name}: its vision tower takes images of {config.image_size} pixels only")
        processor = Processor.load(self._folder)
        if size != processor.config.image_size:
            room = config.encoder_config.max_position_embeddings - config.num_image_tokens(size)
            if room < 1:
                raise ValueError(f"{self.name}: an image of {size} pixels leaves no positions for a prompt")
            settings = replace(processor.config, image_size=size, max_prompt_tokens=room)
            processor = Processor(settings, processor.encoder_tokenizer, processor.decoder_tokenizer)
        return PolyglanceCaptioner(model, processor)

    def _prefix(self, task: EvaluationTask, language: str) -> str:
        return resolve_prefix(language, self._config.prefix) if task == "caption" else ""

    @torch.no_grad()
    def _write(self, images: Sequence[Picture], prompts: Sequence[str], prefix: str) -> list[str | Failure]:
        answers, rows = self._refuse(prompts)
        if rows:
            texts = self.captioner.write(
                [prompts[row] for row in rows],
                self._features([images[row] for row in rows]),
                prefix=prefix,
                config=self._generate,
                keep_prefix=False,
            )
            answers |= {row: text[:1].upper() + text[1:] for row, text in zip(rows, texts, strict=True)}
        return [answers[row] for row in range(len(prompts))]

    def _refuse(self, prompts: Sequence[str], candidates: Candidates = ()) -> tuple[dict[int, Any], list[int]]:
        """Return row -> failure for prompts or candidates that are too long, and the other rows."""
        refused: dict[int, Any] = {}
        for row, text in enumerate(prompts):
            try:
                self.captioner.processor.prompt_ids(text)
            except ValueError as error:
                refused[row] = Failure(str(error))
        room = self.captioner.model.config.decoder_config.max_position_embeddings
        for row, texts in enumerate(candidates):
            longest = max(len(self._target(text)) - 1 for text in texts)
            if longest > room:
                refused.setdefault(row, Failure(f"a candidate has {longest} tokens; the decoder takes {room}"))
        return refused, [row for row in range(len(prompts)) if row not in refused]

    def _features(self, images: Sequence[Picture]) -> Float[Tensor, "B I E"]:
        """Encode images as in training: bicubic, the aspect ratio not kept."""
        model = self.captioner.model
        squares = [resize_to_square(image.rgb, self._image_size) for image in images]
        pixels = normalise_pixels(torch.from_numpy(np.stack(squares)))
        return model.encode_image(pixels.to(model.device, model.dtype))

    def _losses(
        self, features: Float[Tensor, "B I E"], prompts: Sequence[str], candidates: Candidates
    ) -> list[tuple[TextLoss, ...]]:
        model, processor = self.captioner.model, self.captioner.processor
        ids, mask = processor.prompts(prompts)
        states, mask_of_all = model.encode(None, ids.to(model.device), mask.to(model.device), features)
        sizes = [len(texts) for texts in candidates]
        rows = torch.tensor([row for row, size in enumerate(sizes) for _ in range(size)], device=model.device)
        targets = [self._target(text)[1:] for texts in candidates for text in texts]
        labels = pad(targets, IGNORED)
        nats = model.nats(
            states[rows],
            None if mask_of_all is None else mask_of_all[rows],
            labels.to(model.device),
            places=find_places(labels).to(model.device),
        )
        sums = nats.double().sum(dim=1).tolist()
        losses = iter([TextLoss(nats=total, num_tokens=len(row)) for total, row in zip(sums, targets, strict=True)])
        return [tuple(next(losses) for _ in range(size)) for size in sizes]

    def _target(self, text: str) -> list[int]:
        """Return the ids that the decoder starts with, those of the text, and the end."""
        return [*self.captioner.processor.start_ids(text), self.captioner.model.config.eos_token_id]
