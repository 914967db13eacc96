"""Captions and translations from image files.

from polyglance.model.generate import Captioner
captioner = Captioner.load("out")
for result in captioner.caption(["a.jpg", "b.jpg"], ["es", "zh"]):
    print(result.image, result.language, result.text)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyglance.engines.loading import check_device
from polyglance.mixture.prompts import write_prompt
from polyglance.model.architecture import Polyglance
from polyglance.model.checkpoint import Checkpoint
from polyglance.model.processor import Processor, language_prefix
from polyglance.records import Style

__all__ = ["Captioner", "GenerateConfig", "Generated", "generate_ids", "load_model"]


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How texts are decoded."""

    num_beams: int = 4
    """Beams; 1 is greedy."""
    max_new_tokens: int = 128
    """Longest text, in tokens after the prefix."""
    length_penalty: float = 1.0
    """Exponent of the length that a beam's log-probability is divided by."""
    early_stopping: bool = True
    """Stop looking for better beams once there are `num_beams` finished ones, as the published evaluation does."""
    no_repeat_ngram_size: int = 3
    """No sequence of so many tokens comes twice in a text (published: 3); 0 allows it."""
    batch_size: int = 8
    """Texts decoded at a time."""

    def __post_init__(self) -> None:
        for name in ("num_beams", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 or more is right")


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One text about one image, or why there is none."""

    image: str
    """The image file."""
    language: str
    """Language code."""
    source: str | None = None
    """The text that was translated."""
    prefix: str = ""
    """The words that the text was started with."""
    text: str | None = None
    """The text, its prefix included."""
    error: str | None = None
    """Why there is no text."""


@dataclass(frozen=True)
class _Request:
    result: Generated
    prompt: str
    num_tokens: int
    order: int


class Captioner:
    """A model with its processor: image files in, texts out.

    Args:
        model: on the device it is to run on.
    """

    def __init__(self, model: Polyglance, processor: Processor) -> None:
        processor.check_vocabularies(model.config)
        self.model = model.eval()
        self.processor = processor

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> "Captioner":
        """The model and the processor in a folder.

        Raises:
            ValueError: no such device or folder, or a file in it that is missing, cut short or does not fit the others.
        """
        check_device(device)
        return cls(load_model(folder).to(device), Processor.load(folder))

    def caption(
        self,
        images: Sequence[str | Path],
        languages: Sequence[str],
        *,
        prefix: str = "auto",
        style: Style = "short",
        config: GenerateConfig | None = None,
    ) -> list[Generated]:
        """A caption of each image in each language, in the order of the images, then of the languages.

        Args:
            prefix: words that captions are started with, to pin their language: `auto` the language's own, `none`
                none, else the words.
            style: how long a caption is asked for.

        Raises:
            ValueError: an unknown language, or one without a prefix. An image that cannot be read is not an error:
                its results say why.
        """
        requests = [
            (
                Generated(image=str(image), language=code, prefix=language_prefix(code, prefix)),
                write_prompt("caption", code, style=style),
            )
            for image in images
            for code in languages
        ]
        return self._run(requests, config or GenerateConfig())

    def translate(
        self,
        images: Sequence[str | Path],
        texts: Sequence[str],
        languages: Sequence[str],
        *,
        config: GenerateConfig | None = None,
    ) -> list[Generated]:
        """Each English text, which is about the image of the same place, in each language.

        Raises:
            ValueError: an unknown language, or a text too long for the encoder.
        """
        requests = [
            (Generated(image=str(image), language=code, source=text), write_prompt("translation", code, source=text))
            for image, text in zip(images, texts, strict=True)
            for code in languages
        ]
        return self._run(requests, config or GenerateConfig())

    def _run(self, asked: Sequence[tuple[Generated, str]], config: GenerateConfig) -> list[Generated]:
        """Windows of a few batches: the features of a window's images are computed once, its requests sorted by
        length, so that a batch holds little padding."""
        requests = [
            _Request(result, text, len(self.processor.prompt_ids(text)), order)
            for order, (result, text) in enumerate(asked)
        ]
        done: list[tuple[int, Generated]] = []
        for window in _windows(requests, 4 * config.batch_size):
            features: dict[str, Tensor] = {}
            errors = self._encode_images({request.result.image for request in window}, features)
            done += [
                (request.order, replace(request.result, error=errors[request.result.image]))
                for request in window
                if request.result.image in errors
            ]
            readable = [request for request in window if request.result.image in features]
            for batch in self._batches(readable, config.batch_size):
                texts = self._decode(batch, features, config)
                done += [
                    (request.order, replace(request.result, text=text))
                    for request, text in zip(batch, texts, strict=True)
                ]
        return [result for _, result in sorted(done, key=lambda entry: entry[0])]

    def _batches(self, requests: Sequence[_Request], batch_size: int) -> Iterator[list[_Request]]:
        """Batches of one prefix each: rows of a batch must start at the same position."""
        ordered = sorted(requests, key=lambda request: (request.result.prefix, request.num_tokens))
        for _, group in groupby(ordered, key=lambda request: request.result.prefix):
            while batch := list(islice(group, batch_size)):
                yield batch

    @torch.no_grad()
    def _encode_images(self, images: set[str], features: dict[str, Tensor]) -> dict[str, str]:
        """Put the image tokens of each readable image into `features`; return why the others are not."""
        errors = {}
        for image in sorted(images):
            try:
                pixels = self.processor.images([image])
            except ValueError as error:
                errors[image] = str(error)
            else:
                features[image] = self.model.encode_image(pixels.to(self.model.device, self.model.dtype))[0]
        return errors

    def _decode(self, batch: Sequence[_Request], features: dict[str, Tensor], config: GenerateConfig) -> list[str]:
        generated = generate_ids(
            self.model,
            self.processor,
            [request.prompt for request in batch],
            torch.stack([features[request.result.image] for request in batch]),
            prefix=batch[0].result.prefix,
            config=config,
        )
        return self.processor.texts(generated[:, len(self.processor.config.target_start_ids) :])


def generate_ids(
    model: Polyglance,
    processor: Processor,
    prompts: Sequence[str],
    image_features: Float[Tensor, "B I E"],
    *,
    prefix: str,
    config: GenerateConfig,
) -> Int[Tensor, "B T"]:
    """Ids written for each prompt and image, after the start ids and the prefix, which they begin with. A text ends
    where the decoder has no further positions.

    Args:
        image_features: `encode_image` of the pixels.
        prefix: words that every text is started with.
    """
    ids, mask = processor.prompts(prompts)
    start, device = processor.start_ids(prefix), model.device
    room = model.config.decoder_config.max_position_embeddings - len(start)
    beams: dict[str, Any] = {"length_penalty": config.length_penalty, "early_stopping": config.early_stopping}
    return model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        image_features=image_features,
        decoder_input_ids=torch.tensor([start] * len(prompts), device=device),
        do_sample=False,
        max_new_tokens=max(1, min(config.max_new_tokens, room)),
        num_beams=config.num_beams,
        no_repeat_ngram_size=config.no_repeat_ngram_size or None,
        **(beams if config.num_beams > 1 else {}),
    )


def load_model(folder: str | Path) -> Polyglance:
    """The model in a folder, its files checked first.

    Raises:
        ValueError: a shard that is missing or cut short, a value that is not finite, a configuration that does not fit.
    """
    checkpoint = Checkpoint(folder)
    model_type = checkpoint.config().get("model_type")
    if model_type != "polyglance":
        raise ValueError(
            f"{folder}: a model of type {model_type!r}; expected polyglance (see `polyglance model convert`)"
        )
    for name in checkpoint:
        checkpoint[name]
    try:
        model, report = Polyglance.from_pretrained(folder, output_loading_info=True)
    except RuntimeError as error:  # a shape that does not fit
        raise ValueError(f"{folder}: {str(error).strip().splitlines()[0]}") from None
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder}: {len(missing)} tensor(s) are missing: {', '.join(missing[:5])}")
    return model


def _windows(requests: Sequence[_Request], images: int) -> Iterator[list[_Request]]:
    """Runs of requests about at most so many images."""
    window: list[_Request] = []
    seen: set[str] = set()
    for request in requests:
        if len(seen | {request.result.image}) > images:
            yield window
            window, seen = [], set()
        window.append(request)
        seen.add(request.result.image)
    if window:
        yield window
