"""Translations by checkpoints of transformers: NLLB, MADLAD, Marian."""

from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM

from polyglance.engines.config import EngineConfig
from polyglance.engines.loading import load_model, placed
from polyglance.engines.translators import LocalTranslator, Tongue
from polyglance.engines.weights import check_folder, model_type

__all__ = ["TransformersTranslator"]

_MODEL_TYPES = {"nllb": "m2m_100", "madlad": "t5", "marian": "marian"}


class TransformersTranslator(LocalTranslator):
    """An encoder-decoder of transformers.

    Raises:
        ValueError: the folder holds no model of the configured kind, or one that cannot be used.
    """

    def __init__(self, config: EngineConfig) -> None:
        found = model_type(check_folder(config.path))
        if found != _MODEL_TYPES[config.kind]:
            raise ValueError(f"{config.path}: a {found} model; {config.kind} is {_MODEL_TYPES[config.kind]}")
        super().__init__(config)
        self._model = load_model(AutoModelForSeq2SeqLM, config)

    @torch.no_grad()
    def hypotheses(self, texts: list[str], tongue: Tongue, nth: int) -> list[str]:
        encoded = self.tokenizer(texts, padding=True, return_tensors="pt")
        inputs = placed({name: encoded[name] for name in ("input_ids", "attention_mask")}, self.config)
        options: dict[str, Any] = {}
        if tongue.first_token:
            options["forced_bos_token_id"] = self.tokenizer.convert_tokens_to_ids(tongue.first_token)
        ids = self._model.generate(
            **inputs,
            **options,
            do_sample=False,
            num_beams=self.beams(nth),
            num_return_sequences=nth + 1,
            max_new_tokens=self.config.max_new_tokens,
            length_penalty=self.config.length_penalty,
        )
        return self.tokenizer.batch_decode(ids[nth :: nth + 1], skip_special_tokens=True)
