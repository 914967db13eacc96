"""Checkpoints that write texts about images: Florence-2, and chat models."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any, get_args

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Florence2ForConditionalGeneration

from polyglance.coverage import EvaluationTask
from polyglance.engines.batches import in_batches
from polyglance.engines.checkpoints import WritingCheckpoint, load_processor, text_losses
from polyglance.engines.prompts import caption_prompt, evaluation_prompt
from polyglance.engines.protocol import Answers, CandidateLosses, Candidates, Failure, Picture, TaskLanguages, TextLoss
from polyglance.images import ImageError, to_rgb
from polyglance.languages import LANGUAGES
from polyglance.records import Style

__all__ = ["ChatModel", "Florence2"]

_FLORENCE_TASKS: dict[Style, str] = {
    "short": "<CAPTION>",
    "detailed": "<DETAILED_CAPTION>",
    "paragraph": "<MORE_DETAILED_CAPTION>",
}


class CaptioningCheckpoint(WritingCheckpoint):
    """A checkpoint that writes a text for an image and a prompt, for recipes and under evaluation."""

    @abstractmethod
    def style_prompt(self, style: Style) -> str:
        """Return the prompt of a recipe for an English caption."""

    @abstractmethod
    def write(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[str]:
        """Write a text for each image and prompt, as one batch."""

    def caption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """Caption each encoded image. An image that cannot be decoded gives a `Failure`; the others are captioned."""
        decoded = [_decode(image) for image in images]
        prompt = self.style_prompt(style)
        captions = iter(
            in_batches(
                [image for image in decoded if not isinstance(image, Failure)],
                lambda batch: self.write(batch, [prompt] * len(batch)),
                batch_size=self.recipe.batch_size,
            )
        )
        return [image if isinstance(image, Failure) else next(captions) for image in decoded]

    def answer(self, images: Sequence[Picture], prompts: Sequence[str]) -> Answers:
        return self.write([image.rgb for image in images], prompts)


class Florence2(CaptioningCheckpoint):
    """Florence-2 as implemented in transformers (not the hub's remote code): English captions of three lengths; the
    short one under evaluation."""

    model_class = Florence2ForConditionalGeneration
    languages: TaskLanguages = dict.fromkeys(("caption",), frozenset({"en"}))

    def style_prompt(self, style: Style) -> str:
        return _FLORENCE_TASKS[style]

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:  # noqa: ARG002 - English captions only
        return _FLORENCE_TASKS["short"]

    @torch.no_grad()
    def write(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[str]:
        return self.decode(self.model.generate(**self.process(images, prompts), **self.generation))


class ChatModel(CaptioningCheckpoint):
    """A model of images and text with the chat template of its folder: LLaVA-NeXT, Gemma-3, Pixtral, Qwen-VL. Greedy
    (official code section 4.3).

    Raises:
        ValueError: on first use, a folder without a chat template.
    """

    model_class = AutoModelForImageTextToText
    num_beams = 1
    languages: TaskLanguages = dict.fromkeys(get_args(EvaluationTask), frozenset(LANGUAGES))

    def style_prompt(self, style: Style) -> str:
        return caption_prompt(style, self.recipe.prompt)

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:
        return evaluation_prompt(task, language, source)

    @torch.no_grad()
    def write(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[str]:
        inputs = self.process(images, prompts)
        return self.decode(self.model.generate(**inputs, **self.generation)[:, inputs["input_ids"].shape[1] :])

    def measure_losses(
        self, images: Sequence[Picture], sources: Sequence[str], candidates: Candidates, language: str
    ) -> CandidateLosses:
        """Measure row by row: the prompt is read once, and its keys and values are kept for every candidate. All tokens
        of an answer count, the first and the end token among them."""
        prompts = [self.prompt("disambiguation", language, source) for source in sources]
        return [
            self._row_losses(image, prompt, texts)
            for image, prompt, texts in zip(images, prompts, candidates, strict=True)
        ]

    @torch.no_grad()
    def _row_losses(self, image: Picture, prompt: str, texts: Sequence[str]) -> tuple[TextLoss, ...]:
        inputs = self.process([image.rgb], [prompt])
        read = self.model(**inputs, use_cache=True)
        cache_name = "cache" if "cache" in read else "past_key_values"  # renamed in transformers 5.24
        losses: list[TextLoss] = []
        for text in texts:
            ids = [*self.processor.tokenizer(text, add_special_tokens=False)["input_ids"], self.end_id]
            logits = [read.logits[:, -1:]]
            if len(ids) > 1:
                written = torch.tensor([ids[:-1]], device=self.config.device)
                mask = written.new_ones(1, inputs["input_ids"].shape[1] + len(ids) - 1)
                cache = {cache_name: deepcopy(read[cache_name])}
                logits.append(self.model(input_ids=written, attention_mask=mask, **cache).logits)
            losses += text_losses(torch.cat(logits, dim=1), [ids])
        return tuple(losses)

    def process(self, images: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Any]:
        """Return the model's inputs for one conversation of one question per row, ready for the answer."""
        conversations = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
            for image, text in zip(images, texts, strict=True)
        ]
        encoded = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        return self.to_device(encoded)

    @cached_property
    def end_id(self) -> int:
        """Token that ends an answer: the first of the end tokens that does not end a document."""
        ends = self.model.generation_config.eos_token_id
        document = self.processor.tokenizer.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends or [document])
        return next((end for end in ends if end != document), document)

    @cached_property
    def processor(self) -> Any:
        processor = load_processor(self.folder)
        if not getattr(processor, "chat_template", None):
            raise ValueError(f"{self.folder}: has no chat template; expected the folder of a chat model")
        processor.tokenizer.padding_side = "left"  # answers begin where prompts end
        return processor


def _decode(image: bytes) -> Image.Image | Failure:
    try:
        return to_rgb(image)
    except ImageError as error:
        return Failure(f"image: {error.code}")
