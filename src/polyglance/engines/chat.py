"""Chat models that see images, through transformers: Gemma-3, Pixtral, Qwen-VL and their like."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from polyglance.engines.evaluated import TASKS, Failure, ModelConfig, Picture, Task, TextLoss
from polyglance.engines.library import LibraryModel, load_library_model, load_processor, text_losses
from polyglance.engines.requests import MAX_NEW_TOKENS, request
from polyglance.languages import LANGUAGES

__all__ = ["Chat"]


class Chat(LibraryModel):
    """A chat model with the chat template of its folder: greedy, 128 tokens (official code section 4.3)."""

    languages: Mapping[Task, frozenset[str] | None] = dict.fromkeys(TASKS, frozenset(LANGUAGES))

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        super().__init__(folder, config, beams=1, max_new_tokens=MAX_NEW_TOKENS)

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        return {**super().facts(task, language), "prompt": request(task, language, "{source}")}

    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        return self._answers(images, [request("caption", language)] * len(images))

    def translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Sequence[str | Failure]:
        return self._answers(images, [request("translation", language, source) for source in sources])

    def losses(
        self,
        images: Sequence[Picture],
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        """Row by row: the prompt is read once and its keys and values are kept for every candidate. All tokens of an
        answer count, the first and the end token among them."""
        prompts = [request("disambiguation", language, source) for source in sources]
        return [
            self._row_losses(image, prompt, texts)
            for image, prompt, texts in zip(images, prompts, candidates, strict=True)
        ]

    @torch.no_grad()
    def _answers(self, images: Sequence[Picture], prompts: Sequence[str]) -> list[str]:
        inputs = self._chats([image.rgb for image in images], prompts)
        ids = self._model.generate(**inputs, **self.generation)
        return self.decoded(ids[:, inputs["input_ids"].shape[1] :])

    @torch.no_grad()
    def _row_losses(self, image: Picture, prompt: str, texts: Sequence[str]) -> tuple[TextLoss, ...]:
        inputs = self._chats([image.rgb], [prompt])
        read = self._model(**inputs, use_cache=True)
        end = self._end_id
        losses: list[TextLoss] = []
        for text in texts:
            ids = [*self._processor.tokenizer(text, add_special_tokens=False)["input_ids"], end]
            labels = torch.tensor([ids], device=self.config.device)
            ones = labels.new_ones(1, inputs["input_ids"].shape[1] + len(ids) - 1)
            logits = [read.logits[:, -1:]]
            if len(ids) > 1:
                name = "cache" if "cache" in read else "past_key_values"  # renamed in transformers 5.24
                cache = {name: deepcopy(read[name])}
                logits.append(self._model(input_ids=labels[:, :-1], attention_mask=ones, **cache).logits)
            losses += text_losses(torch.cat(logits, dim=1), labels)
        return tuple(losses)

    def _chats(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> dict[str, Any]:
        """One conversation of one question per row, ready for the answer."""
        conversations = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}]
            for image, prompt in zip(images, prompts, strict=True)
        ]
        made = self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        return self.placed(made)

    @cached_property
    def _end_id(self) -> int:
        """What ends an answer: of several end tokens the first that is not the document's."""
        ends = self._model.generation_config.eos_token_id
        document = self._processor.tokenizer.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends or [document])
        return next((end for end in ends if end != document), document)

    @cached_property
    def _processor(self) -> Any:
        processor = load_processor(self.folder)
        if not getattr(processor, "chat_template", None):
            raise ValueError(f"{self.folder}: it has no chat template: not a chat model")
        processor.tokenizer.padding_side = "left"  # answers begin where prompts end
        return processor

    @cached_property
    def _model(self) -> Any:
        return load_library_model(AutoModelForImageTextToText, self.folder, self.config)
