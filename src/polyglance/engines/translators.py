"""What translators of a local folder have in common, whatever runs them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from polyglance.engines.batches import by_length
from polyglance.engines.config import EngineConfig
from polyglance.engines.loading import load_tokenizer
from polyglance.engines.protocol import Failure
from polyglance.engines.weights import check_folder, weights_version
from polyglance.languages import SOURCE_LANGUAGE, language

__all__ = ["Family", "LocalTranslator", "Tongue"]

Family = Literal["nllb", "madlad", "marian"]
_MARIAN_CODES = {"zh": ("cmn_Hans", "zho_Hans", "cmn", "zho", "zh")}
"""Language -> names of its token, where they are not the two usual codes."""
_DEFAULT_BEAMS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Tongue:
    """How a model is told what language to write."""

    before: str = ""
    """Text that goes before every source text."""
    first_token: str = ""
    """Token that every translation is made to begin with."""


class LocalTranslator(ABC):
    """A translator from English with the tokenizer in its folder; subclasses run the model.

    Raises:
        ValueError: no such folder, no weights in it, or no tokenizer.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config, self.folder = config, check_folder(config.path)
        self.name, self.version = self.folder.resolve().name, weights_version(self.folder)
        self.tokenizer = load_tokenizer(self.folder)
        self.family = self._family()
        if self.family == "nllb":
            self.tokenizer.src_lang = language(SOURCE_LANGUAGE).nllb

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Each text in the language: the best of the beam.

        Raises:
            ValueError: the checkpoint does not know the language.
        """
        return self._translated(texts, language, 0)

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """The second of the beam (of two beams at least) for each text."""
        return self._translated(texts, language, 1)

    @abstractmethod
    def hypotheses(self, texts: list[str], tongue: Tongue, nth: int) -> list[str]:
        """The nth hypothesis of the beam for each text, `tongue.before` already before it."""

    def beams(self, nth: int) -> int:
        """How many beams the nth hypothesis is taken from."""
        return max(self.config.num_beams or _DEFAULT_BEAMS, nth + 1)

    def _translated(self, texts: Sequence[str], code: str, nth: int) -> list[str | Failure]:
        tongue = self._tongue(code)
        sources = [tongue.before + text for text in texts]
        fits = [len(self.tokenizer(text)["input_ids"]) <= self.tokenizer.model_max_length for text in sources]
        made = by_length(
            [text for text, whole in zip(sources, fits, strict=True) if whole],
            lambda batch: self.hypotheses(batch, tongue, nth),
            batch_size=self.config.batch_size,
        )
        rest = iter(made)
        return [next(rest).strip() if whole else Failure("text longer than the translator reads") for whole in fits]

    def _family(self) -> Family:
        """As configured; of a converted model, whose configuration does not say it, by the tokens it knows."""
        if self.config.kind in ("nllb", "madlad", "marian"):
            return self.config.kind
        if self._knows(language(SOURCE_LANGUAGE).nllb):
            return "nllb"
        return "madlad" if self._knows(f"<2{SOURCE_LANGUAGE}>") else "marian"

    def _tongue(self, code: str) -> Tongue:
        entry = language(code)
        if self.family == "nllb":
            return Tongue(first_token=self._known([entry.nllb]))
        if self.family == "madlad":
            return Tongue(before=f"{self._known([f'<2{code}>'])} ")
        if not getattr(self.tokenizer, "supported_language_codes", ()):  # made for one language, which it may name
            target = getattr(self.tokenizer, "target_lang", None)
            if target not in (None, code):
                raise ValueError(f"{self.folder}: it translates into {target}, not into {code}")
            return Tongue()
        names = _MARIAN_CODES.get(code, (entry.nllb.split("_")[0], code))
        return Tongue(before=f"{self._known([f'>>{name}<<' for name in names])} ")

    def _known(self, tokens: list[str]) -> str:
        for token in tokens:
            if self._knows(token):
                return token
        raise ValueError(f"{self.folder}: its tokenizer has no language {' or '.join(tokens)}")

    def _knows(self, token: str) -> bool:
        return self.tokenizer.convert_tokens_to_ids(token) not in (None, self.tokenizer.unk_token_id)
