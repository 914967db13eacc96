"""Settings of a recipe's engines and of a model under evaluation. Engines are opened in `polyglance.engines.open`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polyglance.engines.folders import weights_version
from polyglance.engines.registry import KINDS
from polyglance.language_tags import find_code
from polyglance.languages import did_you_mean

__all__ = ["Dtype", "EngineConfig", "EngineKind", "ModelConfig"]

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
"""Precision of a model's weights (`polyglance.engines.devices.choose_dtype`)."""

if TYPE_CHECKING:
    EngineKind = str
else:
    EngineKind = Literal[KINDS]

_WITHOUT_CHECKPOINT = ("endpoint", "world", "words")
_WITH_CHECKPOINT = tuple(kind for kind in KINDS if kind not in _WITHOUT_CHECKPOINT)
_ONLY_FOR = {
    "path": _WITH_CHECKPOINT,
    "device": _WITH_CHECKPOINT,
    "dtype": _WITH_CHECKPOINT,
    "url": ("endpoint",),
    "model": ("endpoint",),
    "prompt": ("llava", "endpoint"),
    "ambiguous": ("world",),
    "language_codes": ("nllb", "madlad", "marian", "ctranslate2"),
}
"""Setting -> the kinds that use it; with other kinds it is refused."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """An engine of a recipe. Settings that a kind does not use stay unset.

    Raises:
        ValueError: a kind without a setting that it needs, a setting that the kind does not use, or a value out of
            range.
    """

    kind: EngineKind
    """`florence2`; `llava`: any model of images and text with a chat template; `nllb`, `madlad`, `marian` through
    transformers; `ctranslate2`: any of these three, converted; `clip`: CLIP, SigLIP, SigLIP 2, MetaCLIP 2, AltCLIP, as
    the folder's config.json says; `endpoint`: an OpenAI-compatible server; `world`: the grammars of the built-in
    world; `words`: compares English texts by their words, for images that have captions."""
    path: Path | None = None
    """Folder of the checkpoint, with its tokenizer."""
    device: str = "auto"
    """Device of the model: `cpu`, `cuda`, `cuda:1`; `auto`: a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Precision of the weights; int8 with ctranslate2 only."""
    batch_size: int = 32
    """Records at a time."""
    num_beams: int | None = None
    """Beams of the search; None: as published, 4, and 1 for llava."""
    max_new_tokens: int = 256
    """Longest text, in tokens."""
    length_penalty: float = 1.0
    """Exponent of the length by which a beam's log-probability is divided."""
    url: str = ""
    """Address of the server, up to and including `/v1`."""
    model: str = ""
    """Name of the model on the server."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the server's key, its name with API_KEY in it; no key is sent where it is not set."""
    concurrency: int = 8
    """Requests to the server at a time."""
    timeout_s: float = 120.0
    """Longest wait for an answer of the server, in seconds."""
    attempts: int = 5
    """Number of times that a request is tried."""
    prompt: str = ""
    """Prompt for llava and endpoint, instead of the default one; `{language}` and `{text}` are filled in for
    translations."""
    ambiguous: bool = False
    """Only for world: English words with two senses are translated in the wrong sense unless a description shows the
    right one."""

    language_codes: Mapping[str, str] | None = None
    """Language -> its code in the translator's vocabulary, if it is not the usual one: `{ zh = "zho_Hant" }` for NLLB,
    `{ no = "nn" }` for MADLAD, `{ pt = "pob" }` for Marian."""

    def __post_init__(self) -> None:
        if self.language_codes is not None:
            codes = {find_code(code): theirs for code, theirs in self.language_codes.items()}
            if len(codes) < len(self.language_codes):
                raise ValueError(f"language_codes names a language twice: {', '.join(self.language_codes)}")
            object.__setattr__(self, "language_codes", codes)
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of engine; {did_you_mean(self.kind, KINDS)}")
        for name in ("batch_size", "num_beams", "max_new_tokens", "concurrency", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; expected more than 0")
        if self.kind == "endpoint" and not (self.url.startswith(("http://", "https://")) and self.model):
            raise ValueError("an endpoint needs url (http://HOST:PORT/v1) and model")
        if "API_KEY" not in self.api_key_env:  # a recipe of another person could send any secret to its server
            raise ValueError(f"api_key_env is {self.api_key_env!r}; expected a name that contains API_KEY")
        if self.kind not in _WITHOUT_CHECKPOINT and self.path is None:
            raise ValueError(f"{self.kind} needs path, the folder of its checkpoint")
        if self.dtype == "int8" and self.kind != "ctranslate2":
            raise ValueError(f"int8 is for ctranslate2; {self.kind} runs in float32, float16 or bfloat16")
        for field in fields(self):
            kinds = _ONLY_FOR.get(field.name, (self.kind,))
            if self.kind not in kinds and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} is a setting of {' and '.join(kinds)} only; {self.kind} has none")

    @property
    def weights(self) -> str:
        """Digest of the weights in `path`, so that new weights at the same path are noticed; empty without a path."""
        return "" if self.path is None else weights_version(self.path)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model under evaluation, and how it is run."""

    model: str
    """A folder (this project's, Florence-2, PaliGemma, NLLB, a chat model), NAME@COMMIT on the hub, `micro` (that in
    the package), `nllb:FOLDER`, `blip2+nllb:FOLDER,FOLDER`, or `endpoint:http://HOST:PORT/v1#NAME`."""
    device: str = "auto"
    """Device of the model: `cpu`, `cuda`, `cuda:1`; `auto`: a GPU if there is one."""
    dtype: Dtype = "auto"
    """Precision of the weights. `auto`: float32 on a CPU and bfloat16 on a GPU; in disambiguation always float32,
    because half precision gives more ties."""
    prefix: str = "none"
    """First words of every caption, which are not scored: `auto` the language's own, `none` none, else the words. Only
    for models of this project. The default is `none` here, because scores are compared with those of models without a
    prefix, and `auto` in `polyglance caption`, because a person wants a caption in the language."""
    beams: int | None = None
    """Beams of the search; None: as published for the model."""
    max_new_tokens: int | None = None
    """Longest text after prompt and prefix, in tokens; None: as published for the model."""
    resolution: int | None = None
    """Side of the square image, in pixels; None: as in the model's folder. Only for models of this project."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError(f"model is {self.model!r}; expected a folder, or another form of its help")
        for name in ("beams", "max_new_tokens", "resolution"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
