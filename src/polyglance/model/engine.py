"""Models of this project as evaluations ask them (official code section 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from polyglance.config import from_dict
from polyglance.engines.evaluated import TASKS, Failure, ModelConfig, Picture, Task, TextLoss
from polyglance.engines.library import folder_digest, grouped
from polyglance.engines.loading import check_device
from polyglance.files import read_json
from polyglance.languages import LANGUAGES
from polyglance.mixture.collate import IGNORED, pad
from polyglance.mixture.prompts import write_prompt
from polyglance.model.architecture import Polyglance
from polyglance.model.generate import GenerateConfig, generate_ids, load_polyglance
from polyglance.model.processor import Processor, ProcessorConfig, resolve_prefix
from polyglance.model.vision import normalise_pixels

__all__ = ["OwnModel"]


class OwnModel:
    """A folder with a Polyglance and its processor.

    As published: 4 beams, 128 tokens after the prefix, no sequence of 3 tokens twice, texts stripped and their first
    letter upper-cased; the prefix, given to captions only, is not part of them. For a loss every token counts that the
    decoder writes, the first and the end token among them.

    Raises:
        ValueError: a folder without its processor, or a resolution that the model does not take.
    """

    reads_images = True
    languages: Mapping[Task, frozenset[str] | None] = dict.fromkeys(TASKS, frozenset(LANGUAGES))

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        check_device(config.device)
        self.name = folder.resolve().name
        self._folder, self._config = folder, config
        self._generate = GenerateConfig(num_beams=config.beams or 4, max_new_tokens=config.max_new_tokens or 128)
        if not (folder / "processor.json").exists():
            raise ValueError(f"{folder}: no processor.json: this model was saved without its processor")
        self._image_size = from_dict(ProcessorConfig, read_json(folder / "processor.json")).image_size
        if config.resolution is not None:
            self._image_size = config.resolution

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        facts: dict[str, Any] = {
            "weights": self._digest,
            "dtype": self._config.dtype,
            "resolution": self._image_size,
            "prompt": _prompt(task, language, "{source}"),
        }
        if task != "disambiguation":
            facts |= {
                "prefix": self._prefix(task, language),
                "beams": self._generate.num_beams,
                "max_new_tokens": self._generate.max_new_tokens,
                "no_repeat_ngram_size": self._generate.no_repeat_ngram_size,
                "output": "prefix cut, stripped, first letter upper-cased",
            }
        return facts

    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        prompts = [_prompt("caption", language, "")] * len(images)
        return self._write(images, prompts, self._prefix("caption", language))

    def translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Sequence[str | Failure]:
        return self._write(images, [_prompt("translation", language, source) for source in sources], "")

    @torch.no_grad()
    def losses(
        self,
        images: Sequence[Picture],
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        prompts = [_prompt("disambiguation", language, source) for source in sources]
        answers, rows = self._refusals(prompts, candidates)
        if rows:
            features = self._features([images[row] for row in rows])
            found = self._losses(features, [prompts[row] for row in rows], [candidates[row] for row in rows])
            answers |= dict(zip(rows, found, strict=True))
        return [answers[row] for row in range(len(prompts))]

    @cached_property
    def _digest(self) -> str:
        return folder_digest(self._folder)

    @cached_property
    def _model(self) -> Polyglance:
        model = (
            load_polyglance(self._folder)
            .to(device=self._config.device, dtype=getattr(torch, self._config.dtype))
            .eval()
        )
        tower = model.config.vision_config.model_type
        if tower != "florence_vision" and self._image_size != model.config.image_size:
            raise ValueError(f"{self.name}: its vision tower takes images of {model.config.image_size} pixels only")
        return model

    @cached_property
    def _processor(self) -> Processor:
        """The folder's, for images of the resolution that was asked for."""
        processor, model = Processor.load(self._folder), self._model.config
        processor.check_vocabularies(model)
        if self._image_size == processor.config.image_size:
            return processor
        room = model.encoder_config.max_position_embeddings - model.num_image_tokens(self._image_size)
        if room < 1:
            raise ValueError(f"{self.name}: an image of {self._image_size} pixels leaves no place for a prompt")
        settings = replace(processor.config, image_size=self._image_size, max_prompt_tokens=room)
        return Processor(settings, processor.encoder_tokenizer, processor.decoder_tokenizer)

    def _prefix(self, task: Task, language: str) -> str:
        return resolve_prefix(language, self._config.prefix) if task == "caption" else ""

    @torch.no_grad()
    def _write(self, images: Sequence[Picture], prompts: Sequence[str], prefix: str) -> list[str | Failure]:
        refused, rows = self._refusals(prompts)
        answers: dict[int, Any] = dict(refused)
        if rows:
            features = self._features([images[row] for row in rows])
            asked = [prompts[row] for row in rows]
            ids = generate_ids(self._model, self._processor, asked, features, prefix=prefix, config=self._generate)
            written = self._processor.texts(ids[:, len(self._processor.start_ids(prefix)) :])
            answers |= {row: text[:1].upper() + text[1:] for row, text in zip(rows, written, strict=True)}
        return [answers[row] for row in range(len(prompts))]

    def _refusals(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]] = ()
    ) -> tuple[dict[int, Any], list[int]]:
        """Row -> why its prompt or candidates cannot be read, and the rows of those that can."""
        refused: dict[int, Any] = {}
        for row, text in enumerate(prompts):
            try:
                self._processor.prompt_ids(text)
            except ValueError as error:
                refused[row] = Failure(str(error))
        room = self._model.config.decoder_config.max_position_embeddings
        for row, texts in enumerate(candidates):
            longest = max(len(self._target(text)) - 1 for text in texts)
            if longest > room:
                refused.setdefault(row, Failure(f"a candidate has {longest} tokens; the decoder takes {room}"))
        return refused, [row for row in range(len(prompts)) if row not in refused]

    def _features(self, images: Sequence[Picture]) -> Float[Tensor, "B I E"]:
        pixels = normalise_pixels(torch.from_numpy(np.stack([self._square(image.rgb) for image in images])))
        return self._model.encode_image(pixels.to(self._model.device, self._model.dtype))

    def _square(self, image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
        """As in training: bicubic, the aspect ratio not kept."""
        size = (self._image_size, self._image_size)
        return np.array(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))

    def _losses(
        self, features: Float[Tensor, "B I E"], prompts: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[tuple[TextLoss, ...]]:
        model, processor = self._model, self._processor
        ids, mask = processor.prompts(prompts)
        states, mask_of_all = model.encode(None, ids.to(model.device), mask.to(model.device), features)
        sizes = [len(texts) for texts in candidates]
        repeats = torch.tensor(sizes, device=model.device)
        labels = [self._target(text)[1:] for texts in candidates for text in texts]
        nats = model.nats(
            states.repeat_interleave(repeats, dim=0),
            None if mask_of_all is None else mask_of_all.repeat_interleave(repeats, dim=0),
            pad(labels, IGNORED).to(model.device),
        )
        sums = nats.double().sum(dim=1).tolist()
        losses = [TextLoss(nats=total, num_tokens=len(row)) for total, row in zip(sums, labels, strict=True)]
        return grouped(losses, sizes)

    def _target(self, text: str) -> list[int]:
        """Ids that the decoder starts with, those of the text, and the end."""
        return [*self._processor.start_ids(text), self._model.config.eos_token_id]


def _prompt(task: Task, language: str, source: str) -> str:
    if task == "caption":
        return write_prompt("caption", language)
    return write_prompt("translation", language, source=source)
