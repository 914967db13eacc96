"""NLLB: translations of the text alone."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from polyglance.engines.evaluated import Failure, ModelConfig, Picture, Task, TextLoss
from polyglance.engines.library import (
    LibraryModel,
    grouped,
    load_library_model,
    load_tokenizer,
    text_losses,
)
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE
from polyglance.mixture.collate import IGNORED, pad

__all__ = ["Nllb"]


class Nllb(LibraryModel):
    """NLLB-200 of any size, from English: 4 beams, 128 tokens (official code section 4.3). It sees no image."""

    reads_images = False
    languages: Mapping[Task, frozenset[str] | None] = dict.fromkeys(
        ("translation", "disambiguation"), frozenset(LANGUAGES) - {SOURCE_LANGUAGE}
    )

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        super().__init__(folder, config, beams=4, max_new_tokens=128)

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        return {**super().facts(task, language), "prompt": f"{{source}} -> {LANGUAGES[language].nllb}"}

    def translations(
        self,
        images: Sequence[Picture],  # noqa: ARG002
        sources: Sequence[str],
        language: str,
    ) -> Sequence[str | Failure]:
        return self.translate(sources, language)

    def losses(
        self,
        images: Sequence[Picture],  # noqa: ARG002
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        return self.candidate_losses(sources, candidates, language)

    @torch.no_grad()
    def translate(self, sources: Sequence[str], language: str) -> list[str]:
        """English texts in the language."""
        ids = self._model.generate(
            **self._encoded(sources), forced_bos_token_id=self._code_id(language), **self.generation
        )
        return [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]

    @torch.no_grad()
    def candidate_losses(
        self, sources: Sequence[str], candidates: Sequence[Sequence[str]], language: str
    ) -> list[tuple[TextLoss, ...]]:
        """Loss of candidate translations: of the language's code, the text and the end, as the decoder writes them."""
        encoded = self._encoded(sources)
        states = self._model.get_encoder()(**encoded).last_hidden_state
        sizes = [len(texts) for texts in candidates]
        repeats = torch.tensor(sizes, device=self.config.device)
        labels = self._labels([text for texts in candidates for text in texts], language)
        start = labels.new_full((len(labels), 1), self._model.config.decoder_start_token_id)
        logits = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states.repeat_interleave(repeats, dim=0)),
            attention_mask=encoded["attention_mask"].repeat_interleave(repeats, dim=0),
            decoder_input_ids=torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1),
        ).logits
        return grouped(text_losses(logits, labels), sizes)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.folder)

    @cached_property
    def _model(self) -> Any:
        return load_library_model(AutoModelForSeq2SeqLM, self.folder, self.config)

    def _code_id(self, language: str) -> int:
        code = LANGUAGES[language].nllb
        found = self._tokenizer.convert_tokens_to_ids(code)
        if found is None or found == self._tokenizer.unk_token_id:
            raise ValueError(f"{self.folder}: its tokenizer has no language {code}")
        return int(found)

    def _encoded(self, sources: Sequence[str]) -> dict[str, Tensor]:
        self._tokenizer.src_lang = LANGUAGES[SOURCE_LANGUAGE].nllb
        encoded = self._tokenizer(list(sources), padding=True, return_tensors="pt")
        return {name: encoded[name].to(self.config.device) for name in ("input_ids", "attention_mask")}

    def _labels(self, texts: Sequence[str], language: str) -> Int[Tensor, "B T"]:
        code, end = self._code_id(language), self._tokenizer.eos_token_id
        rows = [[code, *ids, end] for ids in self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
        return pad(rows, IGNORED).to(self.config.device)
