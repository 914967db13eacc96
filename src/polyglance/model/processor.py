"""Turns texts and image files into a model's tensors and back; saved with the model.

processor = Processor.load("out")
pixels = processor.images(["cat.png"])
ids, mask = processor.prompts(["The target language is German. What does the image describe?"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from polyglance.config import from_dict, to_dict
from polyglance.files import DamagedError, read_json, write_json
from polyglance.images import ImageError
from polyglance.languages import language
from polyglance.mixture.collate import pad
from polyglance.mixture.images import square_pixels
from polyglance.mixture.texts import Frames
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.vision import normalise_pixels

__all__ = ["Processor", "ProcessorConfig", "resolve_prefix"]

_CONFIG = "processor.json"
_MAX_SIDE = 16_384
"""Largest side of the square images, in pixels."""
_SHARED, _ENCODER, _DECODER = "tokenizer.json", "encoder_tokenizer.json", "decoder_tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """Sizes and ids for preparing texts and images; the content of processor.json."""

    image_size: int
    """Side of the square that images are resized to, in pixels: bicubic, without keeping the aspect ratio."""
    max_prompt_tokens: int
    """Longest prompt, in tokens, start and end ids included: the encoder's positions less the image's tokens."""
    prompt_pad_id: int
    """Id that fills up shorter prompts; masked."""
    prompt_start_ids: tuple[int, ...]
    """Ids before a prompt."""
    prompt_end_ids: tuple[int, ...]
    """Ids after a prompt."""
    target_start_ids: tuple[int, ...]
    """Ids that decoding starts from, before a language prefix."""

    def __post_init__(self) -> None:
        ids = (self.prompt_pad_id, *self.prompt_start_ids, *self.prompt_end_ids, *self.target_start_ids)
        if not 0 < self.image_size <= _MAX_SIDE or self.max_prompt_tokens < 1:
            raise ValueError(f"image_size is 1 to {_MAX_SIDE} and max_prompt_tokens at least 1")
        if not self.target_start_ids or not all(0 <= token < 2**31 for token in ids):
            raise ValueError("ids of tokens are 0 or more, and target_start_ids has one at least")

    @classmethod
    def read(cls, folder: Path) -> "ProcessorConfig":
        """Read processor.json of a model's folder.

        Raises:
            ValueError: there is none, or a value that does not fit: one line.
        """
        path = folder / _CONFIG
        if not path.exists():
            raise ValueError(f"{folder}: no {_CONFIG}: this model was saved without its processor")
        try:
            return from_dict(cls, read_json(path, max_bytes=2**20))
        except DamagedError:
            raise
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


class Processor:
    """The tokenizers of encoder and decoder, and the image transform.

    Args:
        encoder_tokenizer: tokenizer of prompts.
        decoder_tokenizer: tokenizer of targets; None: the same one.
    """

    def __init__(
        self, config: ProcessorConfig, encoder_tokenizer: Tokenizer, decoder_tokenizer: Tokenizer | None = None
    ) -> None:
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

    def images(self, paths: Sequence[str | Path]) -> Float[Tensor, "B 3 H W"]:
        """Read image files as the vision tower's input.

        Raises:
            ValueError: a file that cannot be read as an image; the message names it.
        """
        pixels = np.stack([_read_pixels(Path(path), self.config.image_size) for path in paths])
        return normalise_pixels(torch.from_numpy(pixels))

    def prompts(self, texts: Sequence[str]) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
        """Return ids of prompts, padded on the right, and their mask.

        Raises:
            ValueError: a prompt with more tokens than the encoder has positions for.
        """
        ids = [self.prompt_ids(text) for text in texts]
        padded = pad(ids, self.config.prompt_pad_id)
        lengths = torch.tensor([len(row) for row in ids])
        return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids of one prompt, start and end ids included.

        Raises:
            ValueError: more tokens than the encoder has positions for.
        """
        inner = self.encoder_tokenizer.encode(text, add_special_tokens=False).ids
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

    def save(self, folder: str | Path) -> None:
        """Write settings and tokenizers into a model's folder."""
        folder = Path(folder)
        write_json(folder / _CONFIG, to_dict(self.config), indent=2)
        if self.decoder_tokenizer is self.encoder_tokenizer:
            self.encoder_tokenizer.save(str(folder / _SHARED))
        else:
            self.encoder_tokenizer.save(str(folder / _ENCODER))
            self.decoder_tokenizer.save(str(folder / _DECODER))

    @classmethod
    def load(cls, folder: str | Path) -> "Processor":
        """Load the processor in a model's folder.

        Raises:
            ValueError: no processor, or a file of it that is missing or broken.
        """
        folder = Path(folder)
        config = ProcessorConfig.read(folder)
        if (folder / _SHARED).exists():
            return cls(config, load_tokenizer(folder / _SHARED))
        return cls(config, load_tokenizer(folder / _ENCODER), load_tokenizer(folder / _DECODER))


def resolve_prefix(code: str, prefix: str) -> str:
    """Return the words that a text is started with.

    Args:
        code: language code.
        prefix: `auto` the language's usual words, `none` none, else the words themselves.

    Raises:
        ValueError: an unknown language, or `auto` for one that has no prefix.
    """
    if prefix == "none":
        return ""
    if prefix != "auto":
        return prefix
    if not language(code).prefix:
        raise ValueError(f"no prefix is known for the language {code!r}: give --prefix none, or the words")
    return language(code).prefix


def _read_pixels(path: Path, image_size: int) -> np.ndarray:
    try:
        return square_pixels(path.read_bytes(), image_size)
    except (OSError, ImageError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: {reason}") from None
