"""Conversion of texts and images to a model's tensors and back; saved with the model.

processor = Processor.from_pretrained("out")
inputs = processor(images="cat.png", text="The target language is German. What does the image describe?")
processor.batch_decode(model.generate(**inputs), skip_special_tokens=True)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from polyglance.config import from_dict, to_dict
from polyglance.engines.folders import find_folder
from polyglance.files import DamagedError, read_json, write_json
from polyglance.images import ImageError, picture_to_rgb
from polyglance.languages import (
    OwnLanguage,
    declare_new_languages,
    did_you_mean,
    find_declared_languages,
    get_language,
)
from polyglance.mixture.collate import IGNORED, pad, pad_with_mask
from polyglance.mixture.images import resize_to_square, square_pixels
from polyglance.mixture.texts import Frames
from polyglance.mixture.tokenizer import encode_prompts, load_tokenizer
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.hub_files import PROCESSOR_AUTO_MAP, write_module
from polyglance.model.vision import normalise_pixels

__all__ = ["ImageInput", "Processor", "ProcessorConfig", "has_processor", "list_images", "resolve_prefix"]

_CONFIG = "processor_config.json"
_OLD_CONFIG = "processor.json"
"""Name of the settings in folders of older versions."""
_MAX_SIDE = 16_384
"""Largest side of the square images, in pixels."""
_SHARED, _ENCODER, _DECODER = "tokenizer.json", "encoder_tokenizer.json", "decoder_tokenizer.json"

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
"""An image: a file, a picture of Pillow, or uint8 pixels: height x width, with 1, 3 or 4 channels last."""


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """Sizes and ids for preparing texts and images; the content of processor_config.json."""

    image_size: int
    """Side of the square that images are resized to, in pixels: bicubic, without keeping the aspect ratio."""
    max_prompt_tokens: int
    """Longest prompt, in tokens, start and end ids included: the encoder's positions minus the image's tokens."""
    prompt_pad_id: int
    """Padding id of prompts; masked."""
    prompt_start_ids: tuple[int, ...]
    """Ids before a prompt."""
    prompt_end_ids: tuple[int, ...]
    """Ids after a prompt."""
    target_start_ids: tuple[int, ...]
    """Ids that decoding starts from, before a language prefix."""
    target_end_id: int | None = None
    """Id that ends a text; None: not known (folders of older versions)."""
    languages: Mapping[str, OwnLanguage] | None = field(default=None, metadata={"on_read": declare_new_languages})
    """Languages that were declared where the model was made; None where there were none."""

    def __post_init__(self) -> None:
        ids = (self.prompt_pad_id, *self.prompt_start_ids, *self.prompt_end_ids, *self.target_start_ids)
        if not 0 < self.image_size <= _MAX_SIDE or self.max_prompt_tokens < 1:
            raise ValueError(f"image_size must be 1 to {_MAX_SIDE}, and max_prompt_tokens at least 1")
        if not self.target_start_ids or not all(0 <= token < 2**31 for token in ids):
            raise ValueError("ids of tokens must be 0 or more, and target_start_ids must have at least one")

    @classmethod
    def read(cls, folder: Path) -> "ProcessorConfig":
        """Read the settings of the processor in a model's folder.

        Raises:
            ValueError: there is none, or a value that does not fit: one line.
        """
        path = folder / (_OLD_CONFIG if not (folder / _CONFIG).exists() else _CONFIG)
        if not path.exists():
            raise ValueError(f"{folder}: no {_CONFIG}: this model was saved without its processor")
        try:
            values = read_json(path, max_bytes=2**20)
            if isinstance(values, dict):
                values = {name: value for name, value in values.items() if name not in ("processor_class", "auto_map")}
            return from_dict(cls, values)
        except DamagedError:
            raise
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


class Processor(ProcessorMixin):  # type: ignore[misc]
    """The tokenizers of encoder and decoder, and the image transform: a processor of transformers.

    Args:
        encoder_tokenizer: tokenizer of prompts.
        decoder_tokenizer: tokenizer of targets; None: the same one.
    """

    def __init__(
        self, config: ProcessorConfig, encoder_tokenizer: Tokenizer, decoder_tokenizer: Tokenizer | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder_tokenizer = encoder_tokenizer
        self.decoder_tokenizer = decoder_tokenizer or encoder_tokenizer

    @classmethod
    def for_model(
        cls,
        config: PolyglanceConfig,
        encoder_tokenizer: Tokenizer,
        decoder_tokenizer: Tokenizer | None = None,
        *,
        image_size: int | None = None,
    ) -> "Processor":
        """Make the processor of a model. With two tokenizers the frames are the published ones: `<s> prompt </s>` and
        `decoder_start <bos>` (official code sections 1.8 and 1.9); with one, `prompt <eos>` and `<bos>`.

        Args:
            image_size: side of the square images, in pixels; None: the configuration's default.

        Raises:
            ValueError: a tokenizer with more entries than the model has rows for.
        """
        image_size = image_size or config.image_size
        encoder, start, bos = config.encoder_config, config.decoder_start_token_id, config.bos_token_id
        two = decoder_tokenizer is not None
        settings = ProcessorConfig(
            image_size=image_size,
            max_prompt_tokens=encoder.max_position_embeddings - config.num_image_tokens(image_size),
            prompt_pad_id=encoder.pad_token_id,
            prompt_start_ids=(encoder.bos_token_id,) if two else (),
            prompt_end_ids=(encoder.eos_token_id,),
            target_start_ids=(start,) if start == bos else (start, bos),
            target_end_id=config.eos_token_id,
        )
        processor = cls(settings, encoder_tokenizer, decoder_tokenizer)
        processor.check_vocabularies(config)
        return processor

    @property
    def frames(self) -> Frames:
        """The ids around prompts and labels. The first start id is not a label: the model puts it before them."""
        settings = self.config
        return Frames(
            prompt_start=settings.prompt_start_ids,
            prompt_end=settings.prompt_end_ids,
            prompt_pad=settings.prompt_pad_id,
            target_start=settings.target_start_ids[1:],
        )

    def check_vocabularies(self, config: PolyglanceConfig) -> None:
        """Check that the model has a row for each id of the tokenizers.

        Raises:
            ValueError: a tokenizer with more entries.
        """
        for side, tokenizer, rows in (
            ("encoder", self.encoder_tokenizer, config.encoder_config.vocab_size),
            ("decoder", self.decoder_tokenizer, config.vocab_size),
        ):
            if tokenizer.get_vocab_size() > rows:
                raise ValueError(
                    f"vocabulary mismatch: the {side}'s tokenizer has {tokenizer.get_vocab_size()} entries, "
                    f"the model {rows} rows: they do not belong together"
                )

    def __call__(
        self,
        images: ImageInput | Sequence[ImageInput] | None = None,
        text: str | Sequence[str] | None = None,
        *,
        text_target: str | Sequence[str] | None = None,
        prefix: str | None = None,
        return_tensors: Literal["pt"] | None = "pt",
        padding: bool | Literal["longest"] = True,
        **unknown: Any,
    ) -> BatchFeature:
        """Make the model's inputs from images and prompts, one of each per row.

        Args:
            images: `pixel_values`: one image or several.
            text: `input_ids` and `attention_mask`: one prompt or several (`polyglance.mixture.prompts.write_prompt`).
            text_target: `labels`: the target texts, with the end token, padded with -100.
            prefix: `decoder_input_ids`: what `generate` starts from, the words of a language prefix included.
            return_tensors, padding: tensors of torch, rows padded to the longest; other values are refused.

        Raises:
            TypeError: an argument that is not known; the message names the nearest one.
            ValueError: an image that cannot be read, a prompt that is too long, or lists of different lengths.
        """
        for name in unknown:
            known = ("images", "text", "text_target", "prefix", "return_tensors", "padding")
            raise TypeError(f"the processor has no argument {name!r}; {did_you_mean(name, known)}")
        if return_tensors not in ("pt", None) or padding not in (True, False, "longest"):
            raise ValueError("the processor makes tensors of torch, padded to the longest row: return_tensors='pt'")
        rows: dict[str, list[Any]] = {}
        for name, values in (("images", images), ("text", text), ("text_target", text_target)):
            if values is not None:
                rows[name] = list_images(values) if name == "images" else _list_texts(values)  # type: ignore[arg-type]
        if not rows:
            raise ValueError("give images or text")
        lengths = {name: len(values) for name, values in rows.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected one of each per row, got {lengths}")
        data: dict[str, Tensor] = {}
        if images is not None:
            data["pixel_values"] = self.images(rows["images"])
        if text is not None:
            data["input_ids"], data["attention_mask"] = self.prompts(rows["text"])
        if text_target is not None:
            data["labels"] = pad([self._label_ids(target) for target in rows["text_target"]], IGNORED)
        if prefix is not None:
            data["decoder_input_ids"] = torch.tensor([self.start_ids(prefix)] * next(iter(lengths.values())))
        return BatchFeature(data)

    def images(self, images: Sequence[ImageInput]) -> Float[Tensor, "B 3 H W"]:
        """Read images as the vision tower's input.

        Raises:
            ValueError: an image that cannot be read; the message names it.
        """
        pixels = np.stack([_read_pixels(image, self.config.image_size) for image in images])
        return normalise_pixels(torch.from_numpy(pixels))

    def prompts(self, texts: Sequence[str]) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
        """Return ids of prompts, padded on the right, and their mask.

        Raises:
            ValueError: a prompt with more tokens than the encoder has positions for.
        """
        return pad_with_mask([self.prompt_ids(text) for text in texts], self.config.prompt_pad_id)

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of one prompt: between start and end ids the language token, if the tokenizer has such tokens,
        and the text.

        Raises:
            ValueError: more tokens than the encoder has positions for, or a language without its token.
        """
        (inner,) = encode_prompts(self.encoder_tokenizer, [text])
        ids = [*self.config.prompt_start_ids, *inner, *self.config.prompt_end_ids]
        if len(ids) > self.config.max_prompt_tokens:
            raise ValueError(
                f"the prompt {text[:40]!r}... has {len(ids)} tokens; the encoder takes {self.config.max_prompt_tokens} "
                f"beside an image of {self.config.image_size} pixels: shorten it"
            )
        return ids

    def start_ids(self, prefix: str = "") -> list[int]:
        """Return the ids that decoding starts from, those of a language prefix included."""
        return [*self.config.target_start_ids, *self.decoder_tokenizer.encode(prefix, add_special_tokens=False).ids]

    def texts(self, ids: Int[Tensor, "B T"]) -> list[str]:
        """Return the texts of generated ids, without special tokens."""
        decoded = self.decoder_tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)
        return [text.strip() for text in decoded]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The decoder's tokenizer as transformers' own class: generated ids to texts."""
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=self.decoder_tokenizer)
        tokenizer.clean_up_tokenization_spaces = False
        return tokenizer

    def batch_decode(self, ids: Any, **kwargs: Any) -> list[str]:
        """Return the texts of generated ids (the decoder's vocabulary)."""
        return [self.decode(row, **kwargs) for row in ids]

    def decode(self, ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str:
        """Return the text of one row of generated ids (the decoder's vocabulary)."""
        row = torch.as_tensor(ids).flatten().tolist()
        known = [number for number in row if 0 <= number < self.decoder_tokenizer.get_vocab_size()]
        return str(self.tokenizer.decode(known, skip_special_tokens=skip_special_tokens, **kwargs))

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """Return the texts of generated ids; pipelines of transformers call this."""
        texts = self.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        return [text.strip() for text in texts]

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that the processor makes of images and prompts."""
        return ["pixel_values", "input_ids", "attention_mask"]

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Return no names of component processors: this processor saves itself."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Return the content of processor_config.json."""
        config = replace(self.config, languages=find_declared_languages())
        return {**to_dict(config), "processor_class": type(self).__name__, "auto_map": PROCESSOR_AUTO_MAP}

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write settings and tokenizers into a model's folder.

        Args:
            push_to_hub: send them to the hub too; `kwargs` are then those of `push_to_hub`.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _CONFIG, self.to_dict(), indent=2)
        write_module(folder)
        if self.decoder_tokenizer is self.encoder_tokenizer:
            self.encoder_tokenizer.save(str(folder / _SHARED))
        else:
            self.encoder_tokenizer.save(str(folder / _ENCODER))
            self.decoder_tokenizer.save(str(folder / _DECODER))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return [str(folder / _CONFIG)]

    def save(self, folder: str | Path) -> None:
        """Write settings and tokenizers into a model's folder."""
        self.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "Processor":
        """Load the processor in a model's folder, or of a model on the Hugging Face hub.

        Args:
            pretrained_model_name_or_path: a folder, or NAME@COMMIT; the commit may be given as `revision` too.
            kwargs: other options of transformers' loading functions, which the processor does not need.

        Raises:
            ValueError: no processor, or a file of it that is missing or broken.
        """
        revision = kwargs.get("revision")
        is_folder = Path(pretrained_model_name_or_path).is_dir() or revision in (None, "main")
        name = pretrained_model_name_or_path if is_folder else f"{pretrained_model_name_or_path}@{revision}"
        return cls.load(find_folder(name))

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """Do nothing: folders have the module that Auto classes import; the library would copy this file instead."""

    @classmethod
    def load(cls, folder: str | Path) -> "Processor":
        """Load the processor in a model's folder.

        Raises:
            ValueError: no processor, or a file of it that is missing or broken.
        """
        folder = Path(folder)
        config = ProcessorConfig.read(folder)
        if (folder / _ENCODER).exists():
            return cls(config, load_tokenizer(folder / _ENCODER), load_tokenizer(folder / _DECODER))
        return cls(config, load_tokenizer(folder / _SHARED))

    def _label_ids(self, text: str) -> list[int]:
        """Return a text's ids as labels: those after the first start id, and the end."""
        end = [self.config.target_end_id] if self.config.target_end_id is not None else []
        return [*self.start_ids(text)[1:], *end]


def has_processor(folder: str | Path) -> bool:
    """Tell whether a model's folder has a processor, whole or not."""
    return any((Path(folder) / name).exists() for name in (_CONFIG, _OLD_CONFIG))


def resolve_prefix(code: str, prefix: str) -> str:
    """Return the words that a text is started with.

    Args:
        code: language code.
        prefix: `auto` the language's usual words, `published` those of the official code, `none` none, else the words.

    Raises:
        ValueError: an unknown language, or `auto` or `published` for one that has no such words.
    """
    entry = get_language(code)
    if prefix == "none":
        return ""
    if prefix not in ("auto", "published"):
        return prefix
    words = entry.prefix if prefix == "auto" else entry.published
    if not words:
        which = "prefix is known" if prefix == "auto" else "prefix is published"
        raise ValueError(f"no {which} for the language {code!r} ({entry.name}): give --prefix none, or the words")
    return words


def list_images(images: Any) -> list[Any]:
    """Return images as a list: a path, a picture or an array is one; a batch of pixels [B, H, W, C] is several.

    Raises:
        ValueError: something that is not an image.
    """
    is_array = isinstance(images, (np.ndarray, Tensor))
    if isinstance(images, (str, Path, Image.Image)) or (is_array and images.ndim <= 3):
        images = [images]
    elif isinstance(images, (bytes, dict)) or not hasattr(images, "__iter__"):
        raise ValueError(f"a {type(images).__name__} is not an image; give a path, a picture of Pillow or uint8 pixels")
    listed = list(images)
    for image in listed:
        if not isinstance(image, (str, Path, Image.Image, np.ndarray, Tensor)):
            raise ValueError(
                f"a {type(image).__name__} is not an image; give a path, a picture of Pillow or uint8 pixels"
            )
    return listed


def _list_texts(texts: str | Sequence[str]) -> list[str]:
    listed = [texts] if isinstance(texts, str) else list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise ValueError(f"a {type(text).__name__} is not a text")
    return listed


def _read_pixels(image: ImageInput, image_size: int) -> np.ndarray:
    if isinstance(image, Image.Image):
        return _square(image, image_size)
    if isinstance(image, (np.ndarray, Tensor)):
        return _square(_to_picture(np.asarray(image)), image_size)
    try:
        return square_pixels(Path(image).read_bytes(), image_size)
    except (OSError, ImageError) as error:
        raise ValueError(f"{image}: {_explain_unread(str(image), error)}") from None


def _explain_unread(name: str, error: OSError | ImageError) -> str:
    """Return the reason why an image file was not read, and what to give where the name is not that of a file."""
    if isinstance(error, IsADirectoryError):
        return "a folder; give the image files that are in it"
    if isinstance(error, FileNotFoundError) and re.match(r"[a-z][a-z0-9+]+:/", name):
        return "an address; only files are read: download it, and give the file"
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _to_picture(pixels: np.ndarray) -> Image.Image:
    """Make a picture of pixels.

    Raises:
        ValueError: another shape, or another type than uint8, for which black and white are not defined.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not pixels.size or not (pixels.ndim == 2 or pixels.shape[2:] in ((3,), (4,))):
        raise ValueError(
            f"an array of the shape {pixels.shape} and type {pixels.dtype} is not an image: "
            "expected uint8 pixels, height x width x 1, 3 or 4 channels"
        )
    return Image.fromarray(pixels)


def _square(picture: Image.Image, image_size: int) -> np.ndarray:
    """Resize a picture as `polyglance.mixture.images.square_pixels` does a file."""
    try:
        rgb = picture_to_rgb(picture)
    except ImageError as error:
        raise ValueError(f"a picture of Pillow: {error}") from None
    return resize_to_square(rgb, image_size)
