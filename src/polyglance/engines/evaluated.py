"""What an evaluation needs of a model, whoever made it: texts about images, and losses of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from PIL import Image

from polyglance.engines.protocol import Failure
from polyglance.images import ImageError, to_rgb

__all__ = ["TASKS", "EvaluatedModel", "Failure", "ModelConfig", "Picture", "Task", "TextLoss", "check_capability"]

Task = Literal["caption", "translation", "disambiguation"]
TASKS: tuple[Task, ...] = ("caption", "translation", "disambiguation")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model by its specification, and how it is run."""

    model: str
    """A folder, `nllb:FOLDER`, `blip2+nllb:FOLDER,FOLDER` or `endpoint:URL#NAME` (`polyglance.engines.open`)."""
    device: str = "cpu"
    """Where to run."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the weights."""
    prefix: str = "none"
    """Words that captions are started with: `auto` the language's own, `none` none, else the words. Only models of this
    project take them."""
    beams: int | None = None
    """Beams; None: as published for the model."""
    max_new_tokens: int | None = None
    """Longest text, in tokens after prompt and prefix; None: as published for the model."""
    resolution: int | None = None
    """Side of the square image, in pixels; None: what the model's folder says. Only for models of this project."""

    def __post_init__(self) -> None:
        for name in ("beams", "max_new_tokens", "resolution"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image that could be read."""

    encoded: bytes
    """The image file."""
    rgb: Image.Image
    """Its upright RGB pixels."""

    @classmethod
    def read(cls, source: Path | bytes) -> "Picture":
        """Read an image file, or take its bytes.

        Raises:
            ValueError: there is no such file, or it is not an image.
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
    """How unlikely a model finds a text."""

    nats: float
    """Sum of the cross-entropies of its tokens, the end token among them."""
    num_tokens: int
    """How many these are."""


@runtime_checkable
class EvaluatedModel(Protocol):
    """A model behind one interface. Making one is cheap; its weights are read when it is first asked something."""

    name: str
    """For tables and messages."""
    reads_images: bool
    """Whether it looks at the images; if not, it may be asked without them (an empty sequence)."""
    languages: Mapping[Task, frozenset[str] | None]
    """What it can do: task -> language codes, None for any. A task that is not there is one that it cannot do."""

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        """Everything about model and settings that moves its answers: weights, prompt, prefix, beams, resolution,
        what is done to texts afterwards. Plain values; predictions are kept apart by them."""
        ...

    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        """A caption of each image."""
        ...

    def translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Sequence[str | Failure]:
        """Each English text, which is about the image of the same place, in the language."""
        ...

    def losses(
        self,
        images: Sequence[Picture],
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        """For each image and source the loss of each candidate translation, in their order. What depends on image and
        source alone is computed once for all of them."""
        ...


def check_capability(model: EvaluatedModel, task: Task, language: str) -> None:
    """Refuse what the model cannot do.

    Raises:
        ValueError: says what it can.
    """
    if task not in model.languages:
        raise ValueError(f"{model.name} cannot do {task}; it can: {', '.join(model.languages) or 'nothing'}")
    known = model.languages[task]
    if known is not None and language not in known:
        raise ValueError(f"{model.name} does not know the language {language!r}; it knows {', '.join(sorted(known))}")
