"""Translators from English in checkpoint folders: NLLB, MADLAD and Marian, through transformers or ctranslate2."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from polyglance.coverage import EvaluationTask
from polyglance.engines.batches import by_length
from polyglance.engines.checkpoints import WritingCheckpoint, load_checkpoint_tokenizer, pad_ids, text_losses
from polyglance.engines.config import EngineConfig, ModelConfig
from polyglance.engines.folders import weights_version
from polyglance.engines.protocol import Answers, CandidateLosses, Candidates, Failure, Picture, TaskLanguages
from polyglance.error_text import first_line
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE, get_language

__all__ = ["CheckpointTranslator", "ConvertedTranslator", "Nllb"]

TranslatorFamily = Literal["nllb", "madlad", "marian"]
_FAMILIES: Mapping[str, TranslatorFamily] = {
    "m2m_100": "nllb",
    "nllb-moe": "nllb",
    "t5": "madlad",
    "marian": "marian",
}
"""`model_type` in config.json -> family."""
_TOKENS: Mapping[TranslatorFamily, str] = {"nllb": "{}", "madlad": "<2{}>", "marian": ">>{}<<"}
"""Family -> template of the token of a language, which contains the language's code."""
_OTHER_CODES: Mapping[TranslatorFamily, Mapping[str, tuple[str, ...]]] = {
    "nllb": {},
    "madlad": {"he": ("iw", "he"), "quz": ("quz", "qu")},
    "marian": {
        "ar": ("ara", "arb", "ar"),
        "fa": ("pes", "fas", "fa"),
        "fil": ("fil", "fil_Latn", "tgl", "tgl_Latn"),
        "no": ("nob", "nor", "nb", "no"),
        "quz": ("quz", "quy", "que"),
        "sw": ("swh", "swa", "sw"),
        "zh": ("cmn_Hans", "zho_Hans", "cmn", "zho", "zh"),
    },
}
"""Family -> language -> codes in its checkpoints, best first, if they differ from the usual ones: FLORES codes for
NLLB, two-letter codes for MADLAD, three- and two-letter codes for Marian."""
_ENGLISH = get_language(SOURCE_LANGUAGE).nllb


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetLanguage:
    """How a model learns which language to write."""

    source_prefix: str = ""
    """Text before every source text."""
    first_token: str = ""
    """Token that every translation begins with."""


class LocalTranslator(ABC):
    """A translator from English with the tokenizer in its folder; subclasses run the model."""

    folder: Path

    @property
    @abstractmethod
    def recipe(self) -> EngineConfig:
        """Settings of a recipe's engine."""

    @property
    def given_codes(self) -> Mapping[str, str]:
        """Language -> its code as the recipe gives it (`EngineConfig.language_codes`)."""
        return self.recipe.language_codes or {}

    @abstractmethod
    def hypotheses(self, texts: Sequence[str], target: TargetLanguage, nth: int) -> list[str]:
        """Return the nth hypothesis of the beam for each text, which has `target.source_prefix` already."""

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Translate each text into the language: the best hypothesis of the beam. A text that is too long gives a
        `Failure`; the others are translated.

        Raises:
            ValueError: the checkpoint does not know the language.
        """
        return self._translate(texts, language, 0)

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Return the second of the beam (of two beams at least) for each text."""
        return self._translate(texts, language, 1)

    def target(self, code: str) -> TargetLanguage:
        """Return how the model is asked for a language.

        Raises:
            ValueError: the checkpoint does not know the language.
        """
        family, entry = self.family, get_language(code)
        is_for_one_language = not getattr(self.tokenizer, "supported_language_codes", ())
        if family == "marian" and is_for_one_language:  # which it may name
            only = getattr(self.tokenizer, "target_lang", None)
            if only not in (None, code):
                raise ValueError(f"{self.folder}: it translates into {only}, not into {code}")
            if self.given_codes:
                raise ValueError(f"{self.folder}: it knows one language, so language_codes has no effect")
            return TargetLanguage()
        usual = {"nllb": (entry.nllb,), "madlad": (code,), "marian": (entry.nllb.split("_")[0], code)}[family]
        names = _OTHER_CODES[family].get(code, usual)
        if code in self.given_codes:
            names = (self.given_codes[code],)
        token = self._known_token(*(_TOKENS[family].format(name) for name in names))
        return TargetLanguage(first_token=token) if family == "nllb" else TargetLanguage(source_prefix=f"{token} ")

    @cached_property
    def tokenizer(self) -> Any:
        tokenizer = load_checkpoint_tokenizer(self.folder)
        if _knows(tokenizer, _ENGLISH):
            tokenizer.src_lang = _ENGLISH
        return tokenizer

    @property
    def family(self) -> TranslatorFamily:
        """Family of the model, recognised by its tokens: the configuration of a converted model does not name it."""
        if _knows(self.tokenizer, _ENGLISH):
            return "nllb"
        return "madlad" if _knows(self.tokenizer, f"<2{SOURCE_LANGUAGE}>") else "marian"

    def _translate(self, texts: Sequence[str], code: str, nth: int) -> list[str | Failure]:
        target = self.target(code)
        sources = [target.source_prefix + text for text in texts]
        fits = [len(self.tokenizer(text)["input_ids"]) <= self.tokenizer.model_max_length for text in sources]
        translations = iter(
            by_length(
                [text for text, fit in zip(sources, fits, strict=True) if fit],
                lambda batch: self.hypotheses(batch, target, nth),
                batch_size=self.recipe.batch_size,
            )
        )
        return [next(translations).strip() if fit else Failure("text longer than the translator reads") for fit in fits]

    def _known_token(self, *tokens: str) -> str:
        for token in tokens:
            if _knows(self.tokenizer, token):
                return token
        raise ValueError(
            f"{self.folder}: its tokenizer has no language {' or '.join(tokens)}; language_codes names another code"
        )


class CheckpointTranslator(WritingCheckpoint, LocalTranslator):
    """NLLB, MADLAD or Marian in a checkpoint folder of transformers.

    Raises:
        ValueError: a folder without such a model.
    """

    model_class = AutoModelForSeq2SeqLM
    reads_images = False

    def __init__(self, folder: Path, config: EngineConfig | ModelConfig) -> None:
        super().__init__(folder, config)
        wanted = config.kind if isinstance(config, EngineConfig) else "nllb"
        if _FAMILIES.get(self.model_type) != wanted:
            types = " or ".join(name for name, family in _FAMILIES.items() if family == wanted)
            raise ValueError(f"{folder}: a {self.model_type} model; {wanted} is {types}")

    def load(self) -> None:
        _ = self.tokenizer, self.model

    @property
    def given_codes(self) -> Mapping[str, str]:
        return super().given_codes if isinstance(self.config, EngineConfig) else {}

    @property
    def family(self) -> TranslatorFamily:
        return _FAMILIES[self.model_type]

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:  # noqa: ARG002 - the same for all tasks
        return f"{source} -> {LANGUAGES[language].nllb}"

    @torch.no_grad()
    def hypotheses(self, texts: Sequence[str], target: TargetLanguage, nth: int) -> list[str]:
        options: dict[str, Any] = {**self.generation, "num_beams": max(self.generation["num_beams"], nth + 1)}
        if target.first_token:
            options["forced_bos_token_id"] = self.tokenizer.convert_tokens_to_ids(target.first_token)
        ids = self.model.generate(**self.encode(texts), **options, num_return_sequences=nth + 1)
        return self.tokenizer.batch_decode(ids[nth :: nth + 1], skip_special_tokens=True)

    def encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return ids and mask of texts, padded on the right, on the model's device. On a GPU lengths are rounded up to
        few different ones, because the GPU prepares its work again for each new length."""
        multiple = _find_length_multiple(self.config.device)
        encoded = self.tokenizer(list(texts), padding=True, pad_to_multiple_of=multiple, return_tensors="pt")
        return self.to_device({name: encoded[name] for name in ("input_ids", "attention_mask")})


class Nllb(CheckpointTranslator):
    """NLLB-200 of any size under evaluation, from English (official code section 4.3). It reads no images."""

    languages: TaskLanguages = dict.fromkeys(
        ("translation", "disambiguation"), frozenset(LANGUAGES) - {SOURCE_LANGUAGE}
    )

    def write_translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Answers:  # noqa: ARG002
        return self.translate_batch(sources, language)

    def translate_batch(self, sources: Sequence[str], language: str) -> list[str]:
        """Translate texts of any length as one batch."""
        return [text.strip() for text in self.hypotheses(sources, self.target(language), 0)]

    @torch.no_grad()
    def measure_losses(
        self,
        images: Sequence[Picture],  # noqa: ARG002
        sources: Sequence[str],
        candidates: Candidates,
        language: str,
    ) -> CandidateLosses:
        """Count the tokens as the decoder writes them: the language's code, the text and the end."""
        encoded = self.encode(sources)
        states = self.model.get_encoder()(**encoded).last_hidden_state
        sizes = [len(texts) for texts in candidates]
        repeats = torch.tensor(sizes, device=self.config.device)
        code = self.tokenizer.convert_tokens_to_ids(self.target(language).first_token)
        texts = self.tokenizer([text for texts in candidates for text in texts], add_special_tokens=False)
        rows = [[code, *ids, self.tokenizer.eos_token_id] for ids in texts["input_ids"]]
        start = self.model.config.decoder_start_token_id
        logits = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states.repeat_interleave(repeats, dim=0)),
            attention_mask=encoded["attention_mask"].repeat_interleave(repeats, dim=0),
            decoder_input_ids=pad_ids([[start, *row[:-1]] for row in rows], 0).to(self.config.device),
        ).logits
        losses = iter(text_losses(logits, rows))
        return [tuple(next(losses) for _ in range(size)) for size in sizes]


class ConvertedTranslator(LocalTranslator):
    """An NLLB, MADLAD or Marian by `ct2-transformers-converter`, with its tokenizer's files beside it. Faster on a CPU.

    Raises:
        ValueError: ctranslate2 is not installed, or the folder cannot be used.
    """

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        try:
            from ctranslate2 import Translator as Ctranslate2Model
        except ImportError:
            raise ValueError("ctranslate2 is not installed; it comes with polyglance[mt]") from None
        if not (folder / "model.bin").exists():
            raise ValueError(f"{folder}: no such folder" if not folder.is_dir() else f"{folder}: no model.bin in it")
        self.name, self.version = folder.resolve().name, weights_version(folder)
        self.folder, self._config = folder, config
        device, _, index = config.device.partition(":")  # ctranslate2 knows `auto`, too
        _ = self.tokenizer  # a folder without one is refused before the model is read
        try:
            self._model = Ctranslate2Model(
                str(folder), device=device, device_index=int(index or 0), compute_type=config.dtype
            )
        except (RuntimeError, ValueError) as error:  # a device that is not there, a file that is not a model's
            raise ValueError(f"{folder}: {first_line(error)}") from None

    @classmethod
    def for_recipe(cls, config: EngineConfig) -> "ConvertedTranslator":
        """Load the engine of a recipe."""
        assert config.path is not None, "a kind with a checkpoint has a path"
        return cls(config.path, config)

    @property
    def recipe(self) -> EngineConfig:
        return self._config

    def hypotheses(self, texts: Sequence[str], target: TargetLanguage, nth: int) -> list[str]:
        sources = [self.tokenizer.convert_ids_to_tokens(ids) for ids in self.tokenizer(list(texts))["input_ids"]]
        first = [target.first_token] if target.first_token else []
        results = self._model.translate_batch(
            sources,
            target_prefix=[first] * len(texts),
            beam_size=max(self.recipe.num_beams or WritingCheckpoint.num_beams, nth + 1),
            num_hypotheses=nth + 1,
            max_input_length=0,
            max_decoding_length=self.recipe.max_new_tokens,
            length_penalty=self.recipe.length_penalty,
        )
        special = set(self.tokenizer.all_special_tokens)
        written = [result.hypotheses[nth][len(first) :] for result in results]
        return [
            self.tokenizer.convert_tokens_to_string([token for token in tokens if token not in special])
            for tokens in written
        ]


def _find_length_multiple(device: str) -> int | None:
    """Return the number that the padded length of texts is a multiple of; None: the longest text's length."""
    return 16 if device.startswith("cuda") else None


def _knows(tokenizer: Any, token: str) -> bool:
    return tokenizer.convert_tokens_to_ids(token) not in (None, tokenizer.unk_token_id)
