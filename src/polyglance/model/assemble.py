"""A starting point from parts that exist: Florence-2 and Gemma-2 checkpoints, a language model, a vision tower.

Which tensor comes from where: official code section 1.7 (its src/prepare.py). Tensors are read, made and written one
after the other: memory holds one shard of the result and no more of the sources than the tensor at hand.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BartConfig, Gemma2Config, Gemma2ForCausalLM, GenerationConfig

from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.checkpoint import Checkpoint, local_folder, write_weights, writing
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.convert import gemma2_from_published
from polyglance.model.flops import on_meta
from polyglance.model.florence import SHARED, Florence
from polyglance.model.processor import Processor
from polyglance.model.rows import mean_rows, spellings
from polyglance.model.sizes import UNUSED_DECODER_ROWS, UNUSED_ENCODER_ROWS

__all__ = ["AssembleConfig", "Assembled", "assemble", "language_model", "with_language_model", "with_vision_tower"]

_EMBEDDING, _HEAD = "decoder.embed_tokens.weight", "lm_head.weight"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class AssembleConfig:
    """What an initial model is put together from."""

    florence: str
    """Florence-2: a checkpoint folder with its tokenizer.json, or a name on the Hugging Face hub."""
    gemma: str
    """Gemma-2: likewise; a `bart` decoder takes only its tokenizer.json."""
    decoder: Literal["bart", "gemma2"] = "gemma2"
    """`gemma2`: Gemma-2 with cross-attention inserted. `bart`: Florence-2's own decoder, with Gemma-2's vocabulary."""
    cross_attention_every: int = 1
    """A cross-attention block in every k-th layer of a `gemma2` decoder."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the result (published: float32)."""
    unused_encoder_rows: int = UNUSED_ENCODER_ROWS
    """Rows that the encoder's table of a `bart` model gets beyond its vocabulary, as published."""
    unused_decoder_rows: int = UNUSED_DECODER_ROWS
    """Rows that the decoder's table of a `bart` model gets beyond its vocabulary, as published."""
    seed: int = 0
    """Of what is drawn at random: cross-attention projections, rows that have no counterpart."""


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What an initial model was made of."""

    num_parameters: int
    """P: unique parameters."""
    num_copied: int
    """Tensors copied from the checkpoints."""
    num_drawn: int
    """Tensors that are new: drawn at random, zero, or copies of another norm."""
    num_unspelt: int
    """Tokens of the decoder's vocabulary that the encoder's tokenizer cannot spell (`bart` only): drawn at random."""


def assemble(config: AssembleConfig, out: str | Path) -> Assembled:
    """Write an initial model, with its processor, to the folder `out`.

    Raises:
        ValueError: a source that is missing, cut short, not finite or of another kind; parts that do not fit; `out`
            not empty.
    """
    florence_folder, gemma_folder = local_folder(config.florence), local_folder(config.gemma)
    tokenizers = [load_tokenizer(folder / "tokenizer.json") for folder in (florence_folder, gemma_folder)]
    parts = _Parts(config, Florence(Checkpoint(florence_folder)), gemma_folder, *tokenizers)
    processor = Processor.for_model(parts.config, *tokenizers)
    with writing(out) as folder:
        write_weights(folder, parts.tensors())
        parts.config.save_pretrained(folder)
        GenerationConfig.from_model_config(parts.config).save_pretrained(folder)
        processor.save(folder)
    return Assembled(
        num_parameters=parts.num_parameters,
        num_copied=parts.num_copied,
        num_drawn=parts.num_drawn,
        num_unspelt=parts.num_unspelt,
    )


class _Parts:
    """Every tensor of the model, by name, from where it comes from."""

    def __init__(
        self,
        options: AssembleConfig,
        florence: Florence,
        gemma_folder: Path,
        florence_tokenizer: Tokenizer,
        gemma_tokenizer: Tokenizer,
    ) -> None:
        self._options = options
        self._florence = florence
        self._gemma = Checkpoint(gemma_folder) if options.decoder == "gemma2" else None
        self._tokenizers = florence_tokenizer, gemma_tokenizer
        self._text = florence.text_config()
        self.config = self._model_config()
        self._shapes = {name: tuple(t.shape) for name, t in on_meta(self.config).state_dict().items() if name != _HEAD}
        self.num_parameters = self.num_copied = self.num_drawn = self.num_unspelt = 0

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All of them, none twice and none left out; each of the shape that the model has."""
        buffers = {"projector.visual_temporal_embed.pos_idx_to_embed"}
        for name, shape in self._shapes.items():
            tensor = self._new(name, shape)
            if tensor is None:
                tensor = self._copied(name)
                self.num_copied += 1
            else:
                self.num_drawn += 1
            if tuple(tensor.shape) != shape:
                raise ValueError(f"the checkpoint's {name!r} is {tuple(tensor.shape)}; the model needs {shape}")
            self.num_parameters += 0 if name in buffers else tensor.numel()
            yield name, tensor.to(_DTYPES[self._options.dtype])

    def _copied(self, name: str) -> Tensor:
        if self._gemma is not None and name.startswith("decoder."):
            return self._gemma[name.replace("decoder.", "model.", 1)]
        return self._florence[name]

    def _new(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        """A tensor that is in no checkpoint as it is; None for those that are."""
        if name == "encoder.embed_tokens.weight":
            rows = self._drawn(name, shape)
            shared = self._florence[SHARED]
            rows[: len(shared)] = shared
            return rows
        if self._gemma is None:
            return self._mean_rows(shape) if name == _EMBEDDING else None
        if name.endswith("encoder_attn_gate"):
            return torch.zeros(shape)
        if "post_encoder_attention_layernorm" in name:
            return self._copied(name.replace("post_encoder_attention", "post_attention"))
        return self._drawn(name, shape) if ".encoder_attn." in name else None

    def _mean_rows(self, shape: tuple[int, ...]) -> Tensor:
        florence, gemma = self._tokenizers
        specials = {
            self.config.bos_token_id: self._text.bos_token_id,
            self.config.eos_token_id: self._text.eos_token_id,
            self.config.pad_token_id: self._text.pad_token_id,
        }
        unknown = gemma.token_to_id("<unk>"), florence.token_to_id("<unk>")
        if None not in unknown:
            specials[unknown[0]] = unknown[1]
        spelt = spellings(gemma, florence, specials)
        self.num_unspelt = sum(not ids for ids in spelt)
        return mean_rows(self._florence[SHARED].float(), spelt, self._drawn(_EMBEDDING, shape))

    def _drawn(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """N(0, 0.02), as published; a function of seed and name."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self._options.seed} {name}".encode()))
        return torch.empty(shape).normal_(std=self.config.initializer_range, generator=generator)

    def _model_config(self) -> PolyglanceConfig:
        encoder = BartConfig(**self._text.to_diff_dict())
        if self._gemma is None:
            encoder.vocab_size += self._options.unused_encoder_rows
            decoder: BartConfig | Gemma2Config = BartConfig(
                **{**self._text.to_diff_dict(), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
            )
            decoder.vocab_size = self._tokenizers[1].get_vocab_size() + self._options.unused_decoder_rows
        else:
            values = self._gemma.config()
            if values.get("model_type") != "gemma2":
                raise ValueError(f"{self._gemma.folder}: a model of type {values.get('model_type')!r}, not a Gemma-2")
            decoder = gemma2_from_published(
                {
                    **values,
                    "encoder_hidden_size": self._text.d_model,
                    "encoder_attn_every_x_layers": self._options.cross_attention_every,
                }
            )
        config = PolyglanceConfig(
            self._florence.vision_config, encoder, decoder, max_image_grid=self._florence.max_image_grid
        )
        config.architectures = [Polyglance.__name__]
        return config


def language_model(config: PolyglanceConfig) -> Gemma2ForCausalLM:
    """A stock Gemma-2 with the sizes of the decoder in `config`: what is trained on text before images come in."""
    assert isinstance(config.decoder_config, Gemma2Config)
    return Gemma2ForCausalLM(config.decoder_config)


@torch.no_grad()
def with_language_model(model: Polyglance, language_model: Gemma2ForCausalLM | str | Path) -> None:
    """Put a Gemma-2's weights into the model's decoder, in place. The gates stay zero, so that the decoder starts as
    exactly that language model; the norm after cross-attention starts as a copy of the one after self-attention
    (official code section 1.6).

    Args:
        language_model: the model, or a folder with its checkpoint.

    Raises:
        ValueError: a Gemma-2 of other sizes or with another vocabulary.
    """
    if isinstance(language_model, (str, Path)):
        language_model = Gemma2ForCausalLM.from_pretrained(language_model)
    state = language_model.model.state_dict()
    own = model.decoder.state_dict()
    for name, tensor in state.items():
        if name not in own or own[name].shape != tensor.shape:
            wanted = tuple(own[name].shape) if name in own else "no such tensor"
            raise ValueError(f"the language model's {name!r} is {tuple(tensor.shape)}; the decoder has {wanted}")
    unexpected = model.decoder.load_state_dict(state, strict=False).unexpected_keys
    assert not unexpected, unexpected
    for layer in model.decoder.layers:  # type: ignore[union-attr]
        if layer.has_cross_attention:
            layer.post_encoder_attention_layernorm.weight.copy_(layer.post_attention_layernorm.weight)


@torch.no_grad()
def with_vision_tower(model: Polyglance, source: Polyglance | str | Path) -> None:
    """Put the vision tower of another model, or of the checkpoint in a folder, into this one, in place."""
    tower = source if isinstance(source, Polyglance) else Polyglance.from_pretrained(source)
    model.vision_tower.load_state_dict(tower.vision_tower.state_dict())
