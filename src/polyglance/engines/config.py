"""Which engine, and how it is run, as a recipe says it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from polyglance.engines.protocol import Captioner, Embedder, Translator
from polyglance.engines.weights import weights_version

__all__ = ["EngineConfig", "EngineKind"]

EngineKind = Literal["florence2", "llava", "nllb", "madlad", "marian", "ctranslate2", "clip", "endpoint", "world"]
_ROLES: dict[EngineKind, tuple[str, ...]] = {
    "florence2": ("captioner",),
    "llava": ("captioner",),
    "nllb": ("translator",),
    "madlad": ("translator",),
    "marian": ("translator",),
    "ctranslate2": ("translator",),
    "clip": ("embedder",),
    "endpoint": ("captioner", "translator"),
    "world": ("translator",),
}
assert set(_ROLES) == set(get_args(EngineKind))


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """An engine. What a kind does not use may stay unset.

    Raises:
        ValueError: a kind without what it needs, a setting that it does not have, or a value out of range.
    """

    kind: EngineKind
    """`florence2`; `llava`: any model of images and text with a chat template; `nllb`, `madlad`, `marian` through
    transformers; `ctranslate2`: any of these three, converted; `clip`: CLIP, SigLIP, SigLIP 2, MetaCLIP 2, told by the
    folder; `endpoint`: an OpenAI-compatible server; `world`: the grammars of the built-in world."""
    path: Path | None = None
    """Folder of the checkpoint, with its tokenizer."""
    device: str = "cpu"
    """Where to run: `cpu`, `cuda`, `cuda:1`."""
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
    """Address of the server up to and with `/v1`."""
    model: str = ""
    """Name that the server gives the model."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable of the server's key; none is sent where it is not set."""
    concurrency: int = 8
    """Requests at a time."""
    timeout_s: float = 120.0
    """How long an answer of the server may take, in seconds."""
    attempts: int = 5
    """How often a request is tried."""
    prompt: str = ""
    """What llava and endpoint are asked instead of their own words; `{language}` and `{text}` are filled in for
    translations."""
    ambiguous: bool = False
    """Of the world: English words with two senses get the wrong one unless a description tells the right one."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_beams", "max_new_tokens", "concurrency", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; expected more than 0")
        if self.kind == "endpoint" and not (self.url.startswith(("http://", "https://")) and self.model):
            raise ValueError("an endpoint needs url (http://HOST:PORT/v1) and model")
        if self.kind not in ("endpoint", "world") and self.path is None:
            raise ValueError(f"{self.kind} needs path, the folder of its checkpoint")
        if self.dtype == "int8" and self.kind != "ctranslate2":
            raise ValueError(f"int8 is for ctranslate2; {self.kind} runs in float32, float16 or bfloat16")

    @property
    def weights(self) -> str:
        """Stands for the weights in `path`, which may change while the path stays; empty without a path."""
        return "" if self.path is None else weights_version(self.path)

    def captioner(self) -> Captioner:
        """The engine as a captioner, loaded.

        Raises:
            ValueError: the kind is none, or its checkpoint cannot be used.
        """
        self._check("captioner")
        if self.kind == "endpoint":
            from polyglance.engines.endpoint import EndpointCaptioner

            return EndpointCaptioner(self)
        from polyglance.engines.captioners import ChatCaptioner, Florence2Captioner

        return Florence2Captioner(self) if self.kind == "florence2" else ChatCaptioner(self)

    def translator(self) -> Translator:
        """The engine as a translator, loaded.

        Raises:
            ValueError: the kind is none, or its checkpoint cannot be used.
        """
        self._check("translator")
        if self.kind == "world":
            from polyglance.data.world.translator import WorldTranslator

            return WorldTranslator(ambiguous=self.ambiguous)
        if self.kind == "endpoint":
            from polyglance.engines.endpoint import EndpointTranslator

            return EndpointTranslator(self)
        if self.kind == "ctranslate2":
            from polyglance.engines.converted import ConvertedTranslator

            return ConvertedTranslator(self)
        from polyglance.engines.transformers_translators import TransformersTranslator

        return TransformersTranslator(self)

    def embedder(self) -> Embedder:
        """The engine as an embedder, loaded.

        Raises:
            ValueError: the kind is none, or its checkpoint cannot be used.
        """
        self._check("embedder")
        from polyglance.engines.embedders import TransformersEmbedder

        return TransformersEmbedder(self)

    def _check(self, role: str) -> None:
        if role not in _ROLES[self.kind]:
            able = [kind for kind, roles in _ROLES.items() if role in roles]
            raise ValueError(
                f"the engine {self.kind} is no {role} but a {' and a '.join(_ROLES[self.kind])}; "
                f"{role}s are: {', '.join(able)}"
            )
