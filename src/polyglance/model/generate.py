"""Captions and translations from image files.

from polyglance.model import PolyglanceCaptioner
captioner = PolyglanceCaptioner.load("out")
for result in captioner.caption(["a.jpg", "b.jpg"], ["es", "zh"]):
    print(result.image, result.language, result.text)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyglance.engines.config import Dtype
from polyglance.engines.devices import choose_device, choose_dtype
from polyglance.engines.folders import find_folder
from polyglance.engines.loading import load_pretrained
from polyglance.language_identity import judge_language
from polyglance.language_tags import find_codes
from polyglance.mixture.prompts import write_prompt
from polyglance.mixture.tokenizer import can_write
from polyglance.model.architecture import Polyglance
from polyglance.model.checkpoint import Checkpoint
from polyglance.model.config import GenerateConfig
from polyglance.model.decoding import decode_ids
from polyglance.model.processor import ImageInput, Processor, list_images, resolve_prefix
from polyglance.records import Style

__all__ = ["IMAGES_PER_BATCH_SIZE", "Generated", "PolyglanceCaptioner", "generate_ids", "load_polyglance"]

IMAGES_PER_BATCH_SIZE = 4
"""Number of images whose requests are sorted into batches together, in units of the batch size."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A text about an image, or an error."""

    image: str
    """Image file; `image 0` and so on for pictures and arrays, by their position."""
    language: str
    """Language code."""
    source: str | None = None
    """Source text of a translation."""
    prefix: str = ""
    """Words that the text was started with."""
    text: str | None = None
    """The text, with its prefix; None where there is an error."""
    other_language: str = ""
    """Language, or script, of the words after the prefix, if it is clearly not the requested one."""
    error: str | None = None
    """Reason why there is no text."""


@dataclass(frozen=True)
class _Request:
    result: Generated
    image: ImageInput
    prompt: str
    num_tokens: int
    order: int


class PolyglanceCaptioner:
    """A model with its processor: images in, texts out.

    Args:
        model: on the device it is to run on.
    """

    def __init__(self, model: Polyglance, processor: Processor) -> None:
        processor.check_vocabularies(model.config)
        self.model = model.eval()
        self.processor = processor

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto", dtype: Dtype = "auto") -> "PolyglanceCaptioner":
        """Load the model and the processor in a folder, or of a model on the Hugging Face hub.

        Args:
            folder: the folder, or NAME@COMMIT on the hub (`polyglance.engines.folders.find_folder`).
            device: `cpu`, `cuda`, `cuda:1`; `auto`: a GPU if there is one.
            dtype: precision of the weights; `auto`: float32 on a CPU and bfloat16 on a GPU.

        Raises:
            ValueError: no such device or folder, or a file in it that is missing, truncated or does not fit the others.
        """
        device = choose_device(device)
        weights_dtype = getattr(torch, choose_dtype(dtype, device))
        folder = find_folder(folder)
        return cls(load_polyglance(folder).to(device, weights_dtype), Processor.load(folder))

    def caption(
        self,
        images: ImageInput | Sequence[ImageInput],
        languages: str | Sequence[str],
        *,
        prefix: str = "auto",
        style: Style = "short",
        config: GenerateConfig | None = None,
    ) -> list[Generated]:
        """Caption each image in each language. Results are in the order of the images, then of the languages.

        Args:
            images: one image or several: files, pictures of Pillow, arrays of uint8 pixels.
            languages: one language or several, as people write them; each once.
            prefix: words that captions are started with, to fix their language: `auto` the language's usual words,
                `published` those of the official code, `none` none, else the words themselves.
            style: length of the caption that the prompt asks for.

        Raises:
            ValueError: an unknown language, one without a prefix or with one that the model cannot write, or something
                that is not an image. A file that cannot be read raises nothing; the `error` of its results gives the
                reason.
        """
        codes = _list_codes(languages)
        prefixes = {code: resolve_prefix(code, prefix) for code in codes}
        for code, words in prefixes.items():
            if not can_write(self.processor.decoder_tokenizer, words):
                raise ValueError(
                    f"the model's tokenizer cannot write {words!r}, the prefix of {code!r}: its training had no texts "
                    "with these characters; without a prefix (none) it answers in a language that it knows"
                )
        requests = [
            (
                Generated(image=name, language=code, prefix=prefixes[code]),
                image,
                write_prompt("caption", code, style=style),
            )
            for name, image in _name_images(images)
            for code in codes
        ]
        return self._run(requests, config or GenerateConfig())

    def translate(
        self,
        images: ImageInput | Sequence[ImageInput],
        texts: str | Sequence[str],
        languages: str | Sequence[str],
        *,
        config: GenerateConfig | None = None,
    ) -> list[Generated]:
        """Translate each English text, about the image with the same index, into each language.

        Raises:
            ValueError: an unknown language, a text too long for the encoder, something that is not an image, or
                different numbers of texts and images.
        """
        codes, named = _list_codes(languages), _name_images(images)
        sources = [texts] if isinstance(texts, str) else list(texts)
        if len(named) != len(sources):
            raise ValueError(f"{len(named)} images and {len(sources)} texts; expected one image for each text")
        requests = [
            (
                Generated(image=name, language=code, source=text),
                image,
                write_prompt("translation", code, source=text),
            )
            for (name, image), text in zip(named, sources, strict=True)
            for code in codes
        ]
        return self._run(requests, config or GenerateConfig())

    @torch.no_grad()
    def _run(self, asked: Sequence[tuple[Generated, ImageInput, str]], config: GenerateConfig) -> list[Generated]:
        """Answer requests, given as (result without text, image, prompt), for the images of a few batches at a time.
        The features of these images are computed once, and their requests are sorted by length, so that batches have
        little padding."""
        requests: dict[str, list[_Request]] = {}
        for order, (result, image, text) in enumerate(asked):
            request = _Request(result, image, text, len(self.processor.prompt_ids(text)), order)
            requests.setdefault(result.image, []).append(request)
        results: dict[int, Generated] = {}
        names = iter(requests)
        while window := list(islice(names, IMAGES_PER_BATCH_SIZE * config.batch_size)):
            features: dict[str, Tensor] = {}
            for name in window:
                try:
                    pixels = self.processor.images([requests[name][0].image])
                except ValueError as error:
                    results |= {one.order: replace(one.result, error=str(error)) for one in requests[name]}
                else:
                    features[name] = self.model.encode_image(pixels.to(self.model.device, self.model.dtype))[0]
            readable = [request for name in features for request in requests[name]]
            for batch in self._batches(readable, config.batch_size):
                texts = self._decode(batch, features, config)
                for request, text in zip(batch, texts, strict=True):
                    results[request.order] = _finish(request.result, text)
        return [results[order] for order in range(len(asked))]

    def _batches(self, requests: Sequence[_Request], batch_size: int) -> Iterator[list[_Request]]:
        """Make batches of rows with the same prefix, because all rows of a batch start at the same position."""
        ordered = sorted(requests, key=lambda request: (request.result.prefix, request.num_tokens))
        for _, group in groupby(ordered, key=lambda request: request.result.prefix):
            while batch := list(islice(group, batch_size)):
                yield batch

    def _decode(self, batch: Sequence[_Request], features: dict[str, Tensor], config: GenerateConfig) -> list[str]:
        images = torch.stack([features[request.result.image] for request in batch])
        return self.write([request.prompt for request in batch], images, prefix=batch[0].result.prefix, config=config)

    def write(
        self,
        prompts: Sequence[str],
        image_features: Float[Tensor, "B I E"],
        *,
        prefix: str,
        config: GenerateConfig,
        keep_prefix: bool = True,
    ) -> list[str]:
        """Write a text for each prompt and image, as one batch.

        Args:
            image_features: `encode_image` of the pixels.
            prefix: words that every text is started with.
            keep_prefix: return the prefix as a part of the texts.
        """
        ids = generate_ids(self.model, self.processor, prompts, image_features, prefix=prefix, config=config)
        start = self.processor.config.target_start_ids if keep_prefix else self.processor.start_ids(prefix)
        return self.processor.texts(ids[:, len(start) :])


def _name_images(images: ImageInput | Sequence[ImageInput]) -> list[tuple[str, ImageInput]]:
    """Return images with their names in results."""
    listed = list_images(images)
    return [(str(one) if isinstance(one, (str, Path)) else f"image {i}", one) for i, one in enumerate(listed)]


def _list_codes(languages: str | Sequence[str]) -> list[str]:
    named = [languages] if isinstance(languages, str) else list(languages)
    for name in named:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is not a language code; expected one such as 'es'")
    if not named:
        raise ValueError("give a language, for example 'es'")
    return list(dict.fromkeys(find_codes(named)))


def _finish(result: Generated, text: str) -> Generated:
    """Add the text to a result, and its language if it is another than the requested one."""
    found = judge_language(text.removeprefix(result.prefix), result.language)
    is_other = found.verdict == "other"
    return replace(result, text=text, other_language=(found.language or found.script) if is_other else "")


@torch.no_grad()
def generate_ids(
    model: Polyglance,
    processor: Processor,
    prompts: Sequence[str],
    image_features: Float[Tensor, "B I E"],
    *,
    prefix: str,
    config: GenerateConfig,
) -> Int[Tensor, "B T"]:
    """Write a text for each prompt and image: its ids, the start ids and the prefix included.

    A text ends where the decoder has no further positions.

    Args:
        image_features: `encode_image` of the pixels.
        prefix: words that every text is started with.
    """
    prompt_ids, prompt_mask = processor.prompts(prompts)
    start, device = processor.start_ids(prefix), model.device
    room = model.config.decoder_config.max_position_embeddings - len(start)
    states, mask = model.encode(None, prompt_ids.to(device), prompt_mask.to(device), image_features)
    return decode_ids(
        model,
        states,
        mask,
        torch.tensor([start] * len(prompts), device=device),
        max_new_tokens=max(1, min(config.max_new_tokens, room)),
        num_beams=config.beams,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        no_repeat_ngram_size=config.no_repeat_ngram_size,
    )


def load_polyglance(folder: str | Path) -> Polyglance:
    """Check the files of a folder, then load the model in it.

    Raises:
        ValueError: a shard that is missing or truncated, a value that is not finite, a configuration that does not fit.
    """
    checkpoint = Checkpoint(folder)
    model_type = checkpoint.config().get("model_type")
    if model_type != "polyglance":
        raise ValueError(
            f"{folder}: a model of type {model_type!r}; expected polyglance (see `polyglance model convert`)"
        )
    for name in checkpoint:
        checkpoint[name]
    return load_pretrained(Polyglance, folder)
