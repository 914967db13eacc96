"""Captions by checkpoints of transformers: Florence-2, and chat models that see images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Florence2ForConditionalGeneration

from polyglance.engines.config import EngineConfig
from polyglance.engines.loading import load_model, load_processor, placed
from polyglance.engines.prompts import caption_prompt
from polyglance.engines.protocol import Failure
from polyglance.engines.weights import check_folder, weights_version
from polyglance.images import ImageError, to_rgb
from polyglance.records import Style

__all__ = ["ChatCaptioner", "Florence2Captioner"]

_FLORENCE_TASKS: dict[Style, str] = {
    "short": "<CAPTION>",
    "detailed": "<DETAILED_CAPTION>",
    "paragraph": "<MORE_DETAILED_CAPTION>",
}


class _Captioner(ABC):
    """What captioners have in common: images that cannot be read fail alone, the others go in batches.

    Args:
        num_beams: where the configuration leaves it open.
    """

    def __init__(self, config: EngineConfig, model: Any, *, num_beams: int) -> None:
        folder = check_folder(config.path)
        self.name, self.version = folder.resolve().name, weights_version(folder)
        self._config = config
        self._processor = load_processor(folder)
        self._model = load_model(model, config)
        self._generation = {
            "do_sample": False,
            "num_beams": config.num_beams or num_beams,
            "max_new_tokens": config.max_new_tokens,
            "length_penalty": config.length_penalty,
        }

    def caption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """A caption of each encoded image."""
        read = [_read(image) for image in images]
        good = [image for image in read if not isinstance(image, Failure)]
        size = self._config.batch_size
        captions = iter(
            [text for first in range(0, len(good), size) for text in self._captions(good[first : first + size], style)]
        )
        return [image if isinstance(image, Failure) else next(captions) for image in read]

    @abstractmethod
    def _captions(self, images: Sequence[Image.Image], style: Style) -> list[str]:
        """Captions of a batch."""

    def _decoded(self, ids: torch.Tensor) -> list[str]:
        return [text.strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)]


class Florence2Captioner(_Captioner):
    """Florence-2 as transformers has it, asked for the caption of its three lengths: 4 beams."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config, Florence2ForConditionalGeneration, num_beams=4)

    @torch.no_grad()
    def _captions(self, images: Sequence[Image.Image], style: Style) -> list[str]:
        prompts = [_FLORENCE_TASKS[style]] * len(images)
        inputs = self._processor(images=list(images), text=prompts, return_tensors="pt", padding=True)
        return self._decoded(self._model.generate(**placed(inputs, self._config), **self._generation))


class ChatCaptioner(_Captioner):
    """A model of images and text with a chat template, such as LLaVA-NeXT: greedy.

    Raises:
        ValueError: the folder has no chat template.
    """

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config, AutoModelForImageTextToText, num_beams=1)
        if not getattr(self._processor, "chat_template", None):
            raise ValueError(f"{config.path}: it has no chat template: not a chat model")
        self._processor.tokenizer.padding_side = "left"  # answers begin where prompts end

    @torch.no_grad()
    def _captions(self, images: Sequence[Image.Image], style: Style) -> list[str]:
        prompt = caption_prompt(style, self._config.prompt)
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}]
            for image in images
        ]
        made = self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        inputs = placed(made, self._config)
        return self._decoded(self._model.generate(**inputs, **self._generation)[:, inputs["input_ids"].shape[1] :])


def _read(image: bytes) -> Image.Image | Failure:
    try:
        return to_rgb(image)
    except ImageError as error:
        return Failure(f"image: {error.code}")
