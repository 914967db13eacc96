"""Interfaces of engines (models that a recipe or a score uses) and of models under evaluation.

Importing this loads neither torch nor transformers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from polyglance.coverage import EvaluationTask
from polyglance.images import ImageError, to_rgb
from polyglance.records import Style

__all__ = [
    "Answers",
    "CandidateLosses",
    "Candidates",
    "Captioner",
    "Embedder",
    "EvaluatedModel",
    "Failure",
    "Picture",
    "Scorer",
    "TaskLanguages",
    "TextLoss",
    "Translator",
    "check_capability",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """Placeholder for an answer that an engine or a model could not give. They are kept and counted by reason."""

    reason: str
    """Short reason, the same for the same cause: `endpoint: timed out`."""
    detail: str = field(default="", compare=False)
    """The answer, if it is the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A decoded image with its file."""

    encoded: bytes
    """Content of the image file."""
    rgb: Image.Image
    """Upright RGB pixels."""

    @classmethod
    def read(cls, source: Path | bytes) -> "Picture":
        """Read an image file, or decode its bytes.

        Raises:
            ValueError: no such file, or not an image.
        """
        name = f"{source}: " if isinstance(source, Path) else ""
        try:
            encoded = source.read_bytes() if isinstance(source, Path) else source
            return cls(encoded=encoded, rgb=to_rgb(encoded))
        except (OSError, ImageError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"{name}{reason}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextLoss:
    """Cross-entropy of one text."""

    nats: float
    """Sum over the tokens, the end token among them."""
    num_tokens: int
    """Number of these tokens."""


@runtime_checkable
class Captioner(Protocol):
    """Writes English captions."""

    name: str
    """Name of the model. It becomes a caption's origin together with `version`."""
    version: str
    """Digest of the weights; for an endpoint, the model's name on the server."""

    def caption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """Caption each encoded image."""
        ...


@runtime_checkable
class Translator(Protocol):
    """Translates from English."""

    name: str
    version: str

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Translate each text into the language: the best translation that the engine finds."""
        ...

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Return a second candidate for each text (the next hypothesis of the beam, or a sample), for texts whose first
        translation was rejected."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Maps images and English texts into one space, in which matching ones are near."""

    name: str
    version: str
    dim: int

    def embed_images(self, images: Sequence[bytes]) -> Float[np.ndarray, "N D"]:
        """Embed encoded images: float32, each row of unit length."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embed texts: float32, each row of unit length."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Measures how well texts fit images, for CLIPScore."""

    model_type: str
    """Kind of the model, as its config.json gives it. It goes into the score's signature together with `digest`."""
    digest: str
    """SHA-256 of the checkpoint's files, in hexadecimal digits."""

    def cosines(self, images: Sequence[Picture], texts: Sequence[str]) -> list[float]:
        """Return the cosine of each image and the text at the same place."""
        ...


TaskLanguages = Mapping[EvaluationTask, frozenset[str] | None]
"""Tasks that a model can do -> language codes, None for any."""
Candidates = Sequence[Sequence[str]]
"""For each row the candidate translations."""
Answers = Sequence[str | Failure]
CandidateLosses = Sequence[Sequence[TextLoss] | Failure]
"""For each row the losses of its candidates, in their order."""


@runtime_checkable
class EvaluatedModel(Protocol):
    """A model under evaluation. It is cheap to open; its weights are read when it is first used."""

    name: str
    """Name in tables and messages."""
    reads_images: bool
    """Whether it looks at the images; if not, they may be left out (an empty sequence)."""
    languages: TaskLanguages

    def facts(self, task: EvaluationTask, language: str) -> Mapping[str, Any]:
        """Return everything about model and settings that affects its answers: weights, prompt, prefix, beams,
        resolution, post-processing of texts. Plain values; they are part of the fingerprint of predictions."""
        ...

    def write_captions(self, images: Sequence[Picture], language: str) -> Answers:
        """Caption each image."""
        ...

    def write_translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Answers:
        """Translate each English text, which is about the image at the same place, into the language."""
        ...

    def measure_losses(
        self, images: Sequence[Picture], sources: Sequence[str], candidates: Candidates, language: str
    ) -> CandidateLosses:
        """Return for each image and source the losses of its candidate translations, in order. Whatever depends only on
        image and source is computed once for all candidates."""
        ...


def check_capability(model: EvaluatedModel, task: EvaluationTask, language: str) -> None:
    """Refuse a task or language that the model does not have.

    Raises:
        ValueError: names what the model can do.
    """
    if task not in model.languages:
        raise ValueError(f"{model.name} cannot do {task}; it can: {', '.join(model.languages) or 'nothing'}")
    known = model.languages[task]
    if known is not None and language not in known:
        raise ValueError(f"{model.name} does not know the language {language!r}; it knows {', '.join(sorted(known))}")
