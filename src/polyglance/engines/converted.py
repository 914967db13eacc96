"""Translations by checkpoints converted for ctranslate2: the same models, faster on a CPU."""

from polyglance.engines.config import EngineConfig
from polyglance.engines.translators import LocalTranslator, Tongue

__all__ = ["ConvertedTranslator"]


class ConvertedTranslator(LocalTranslator):
    """An NLLB, MADLAD or Marian that `ct2-transformers-converter` wrote, with its tokenizer's files beside it.

    Raises:
        ValueError: ctranslate2 is not installed, or the folder cannot be used.
    """

    def __init__(self, config: EngineConfig) -> None:
        try:
            from ctranslate2 import Translator
        except ImportError:
            raise ValueError("ctranslate2 is not installed; it comes with polyglance[mt]") from None
        super().__init__(config)
        device, _, index = config.device.partition(":")
        try:
            self._model = Translator(
                str(self.folder), device=device, device_index=int(index or 0), compute_type=config.dtype
            )
        except (RuntimeError, ValueError) as error:  # a device that is not there, a file that is not a model's
            raise ValueError(f"{self.folder}: {str(error).splitlines()[0]}") from None

    def hypotheses(self, texts: list[str], tongue: Tongue, nth: int) -> list[str]:
        sources = [self.tokenizer.convert_ids_to_tokens(ids) for ids in self.tokenizer(texts)["input_ids"]]
        first = [tongue.first_token] if tongue.first_token else []
        results = self._model.translate_batch(
            sources,
            target_prefix=[first] * len(texts),
            beam_size=self.beams(nth),
            num_hypotheses=nth + 1,
            max_input_length=0,
            max_decoding_length=self.config.max_new_tokens,
            length_penalty=self.config.length_penalty,
        )
        special = set(self.tokenizer.all_special_tokens)
        written = [result.hypotheses[nth][len(first) :] for result in results]
        return [
            self.tokenizer.convert_tokens_to_string([token for token in tokens if token not in special])
            for tokens in written
        ]
