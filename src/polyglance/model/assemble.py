"""Assembly of an initial model from weights: Florence-2 and Gemma-2 checkpoints, a language model, a vision tower.

The source of each tensor: official code section 1.7 (its src/prepare.py). Tensors are read, made and written one at a
time: memory holds one shard of the result, and of the sources only the tensor being read.
"""

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BartConfig, Gemma2Config, Gemma2ForCausalLM, GenerationConfig

from polyglance.engines.folders import find_folder
from polyglance.engines.loading import load_pretrained, refuse_misfits
from polyglance.language_tags import find_codes
from polyglance.mixture.tokenizer import add_language_tokens, load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.checkpoint import Checkpoint, new_folder, write_weights
from polyglance.model.config import AssembleConfig
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.convert import convert_gemma2_config
from polyglance.model.flops import build_on_meta
from polyglance.model.florence import SHARED, Florence
from polyglance.model.processor import Processor
from polyglance.model.rows import average_rows, spell_tokens

__all__ = [
    "Assembled",
    "assemble_model",
    "build_language_model",
    "insert_language_model",
    "insert_vision_tower",
]

_EMBEDDING, _HEAD = "decoder.embed_tokens.weight", "lm_head.weight"
_TABLE = "embed_tokens.weight"
_UNTIED = "its head is not its embedding; the decoder has one table for both, so it would be another model"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """Counts of an initial model; the output of `polyglance model assemble`."""

    num_parameters: int
    """P: unique parameters."""
    num_copied: int
    """Tensors copied from the checkpoints."""
    num_drawn: int
    """New tensors: drawn at random, zero, or copies of another norm."""
    num_unspelt: int
    """Tokens of the decoder's vocabulary that the encoder's tokenizer cannot spell (`bart` only): drawn at random."""


def assemble_model(config: AssembleConfig, out: str | Path) -> Assembled:
    """Write an initial model, with its processor, to the folder `out`.

    Raises:
        ValueError: a source that is missing, truncated, not finite or of another kind; sources that do not fit
            together; `out` is not empty.
    """
    florence_folder, gemma_folder = find_folder(config.florence), find_folder(config.gemma)
    tokenizers = [load_tokenizer(folder / "tokenizer.json") for folder in (florence_folder, gemma_folder)]
    if config.language_tokens:
        add_language_tokens(tokenizers[0], find_codes(config.language_tokens))
    florence = Florence(Checkpoint(florence_folder))
    if florence.untied_head and config.decoder == "bart":
        print(florence.untied_head, file=sys.stderr)
    assembly = _Assembly(config, florence, gemma_folder, *tokenizers)
    processor = Processor.for_model(assembly.config, *tokenizers)
    with new_folder(out) as folder:
        write_weights(folder, assembly.make_tensors())
        assembly.config.save_pretrained(folder)
        GenerationConfig.from_model_config(assembly.config).save_pretrained(folder)
        processor.save(folder)
    return Assembled(
        num_parameters=assembly.num_parameters,
        num_copied=assembly.num_copied,
        num_drawn=assembly.num_drawn,
        num_unspelt=assembly.num_unspelt,
    )


class _Assembly:
    """The configuration and every tensor of the model; counts the tensors as they are made."""

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
        self._gemma_names = {} if self._gemma is None else _find_gemma_names(self._gemma)
        self._tokenizers = florence_tokenizer, gemma_tokenizer
        self._text = florence.text_config()
        self.config = self._make_config()
        state = build_on_meta(self.config).state_dict()
        self._shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name != _HEAD}
        self.num_parameters = self.num_copied = self.num_drawn = self.num_unspelt = 0

    def make_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Make each tensor of the model once, in the model's shape, with its name."""
        buffers = {"projector.visual_temporal_embed.pos_idx_to_embed"}
        for name, shape in self._shapes.items():
            tensor = self._make_new(name, shape)
            if tensor is None:
                tensor = self._read(name)
                self.num_copied += 1
            else:
                self.num_drawn += 1
            if tuple(tensor.shape) != shape:
                raise ValueError(f"the checkpoint's {name!r} is {tuple(tensor.shape)}; the model needs {shape}")
            self.num_parameters += 0 if name in buffers else tensor.numel()
            yield name, tensor.to(_DTYPES[self._options.dtype])

    def _read(self, name: str) -> Tensor:
        if self._gemma is not None and name.startswith("decoder."):
            inner = name.removeprefix("decoder.")
            return self._gemma[self._gemma_names.get(inner, f"model.{inner}")]
        return self._florence[name]

    def _make_new(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        """Make a tensor that no checkpoint contains; return None for those that a checkpoint contains."""
        if name == "encoder.embed_tokens.weight":
            rows = self._draw(name, shape)
            shared = self._florence[SHARED]
            rows[: len(shared)] = shared
            return rows
        if self._gemma is None:
            return self._make_decoder_table(shape) if name == _EMBEDDING else None
        if name.endswith("encoder_attn_gate"):
            return torch.zeros(shape)
        if "post_encoder_attention_layernorm" in name:
            return self._read(name.replace("post_encoder_attention", "post_attention"))
        return self._draw(name, shape) if ".encoder_attn." in name else None

    def _make_decoder_table(self, shape: tuple[int, ...]) -> Tensor:
        florence, gemma = self._tokenizers
        specials = {
            self.config.bos_token_id: self._text.bos_token_id,
            self.config.eos_token_id: self._text.eos_token_id,
            self.config.pad_token_id: self._text.pad_token_id,
        }
        unknown = gemma.token_to_id("<unk>"), florence.token_to_id("<unk>")
        if None not in unknown:
            specials[unknown[0]] = unknown[1]
        spelt = spell_tokens(gemma, florence, specials)
        self.num_unspelt = sum(not ids for ids in spelt)
        return average_rows(self._florence[SHARED].float(), spelt, self._draw(_EMBEDDING, shape))

    def _draw(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Draw from N(0, 0.02), as published; a function of seed and name."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self._options.seed} {name}".encode()))
        return torch.empty(shape).normal_(std=self.config.initializer_range, generator=generator)

    def _make_config(self) -> PolyglanceConfig:
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
            decoder = convert_gemma2_config(
                {
                    **values,
                    "encoder_hidden_size": self._text.d_model,
                    "encoder_attn_every_x_layers": self._options.cross_attention_every,
                }
            )
        if self._options.language_tokens:
            encoder.vocab_size = max(encoder.vocab_size, self._tokenizers[0].get_vocab_size())
        config = PolyglanceConfig(
            self._florence.vision_config, encoder, decoder, max_image_grid=self._florence.max_image_grid
        )
        config.architectures = [Polyglance.__name__]
        return config


def _find_gemma_names(checkpoint: Checkpoint) -> dict[str, str]:
    """Return name in Gemma-2's decoder -> name in the checkpoint. The checkpoint's names may lack `model.`, and the
    table may have the name of the head that is tied to it.

    Raises:
        ValueError: two names for one tensor, or a head that is not the embedding.
    """
    names = {name.removeprefix("model."): name for name in checkpoint}
    if len(names) < len(checkpoint):
        raise ValueError(f"{checkpoint.folder}: two of its tensors have the same name except for `model.`")
    if (head := names.pop(_HEAD, None)) is not None:
        table = names.setdefault(_TABLE, head)
        if table != head and not torch.equal(checkpoint[table], checkpoint[head]):
            raise ValueError(f"{checkpoint.folder}: {_UNTIED}")
    return names


def build_language_model(config: PolyglanceConfig) -> Gemma2ForCausalLM:
    """Build a stock Gemma-2 of the decoder's sizes, to be trained on texts before it is inserted."""
    assert isinstance(config.decoder_config, Gemma2Config)
    model = Gemma2ForCausalLM(config.decoder_config)
    model.set_attn_implementation("eager")  # transformers 5.20 would use sdpa, which has no soft-cap
    return model


@torch.no_grad()
def insert_language_model(model: Polyglance, language_model: Gemma2ForCausalLM | str | Path) -> None:
    """Copy a Gemma-2's weights into the model's decoder, in place.

    The gates stay zero, so that the decoder computes exactly what that language model computes. The norm after
    cross-attention becomes a copy of the norm after self-attention (official code section 1.6).

    Args:
        language_model: the model, or a folder with its checkpoint.

    Raises:
        ValueError: a Gemma-2 of other sizes or with another vocabulary.
    """
    if isinstance(language_model, (str, Path)):
        language_model = load_pretrained(Gemma2ForCausalLM, language_model)
    head, table = language_model.lm_head.weight, language_model.model.embed_tokens.weight
    if head is not table and not torch.equal(head, table):
        raise ValueError(f"the language model cannot be inserted: {_UNTIED}")
    state = language_model.model.state_dict()
    decoder = model.decoder.state_dict()
    for name, tensor in state.items():
        if name not in decoder or decoder[name].shape != tensor.shape:
            wanted = tuple(decoder[name].shape) if name in decoder else "no such tensor"
            raise ValueError(f"the language model's {name!r} is {tuple(tensor.shape)}; the decoder has {wanted}")
    unexpected = model.decoder.load_state_dict(state, strict=False).unexpected_keys
    assert not unexpected, unexpected
    for layer in model.decoder.layers:  # type: ignore[union-attr]
        if layer.has_cross_attention:
            layer.post_encoder_attention_layernorm.weight.copy_(layer.post_attention_layernorm.weight)


@torch.no_grad()
def insert_vision_tower(model: Polyglance, source: Polyglance | str | Path) -> None:
    """Copy the vision tower of another model, or of the checkpoint in a folder, into this model, in place.

    Raises:
        ValueError: a tower of another kind or size.
    """
    tower = source if isinstance(source, Polyglance) else load_pretrained(Polyglance, source)
    what = "the vision tower" if isinstance(source, Polyglance) else f"{source}: its vision tower"
    wanted, found = (one.vision_tower.state_dict() for one in (model, tower))
    if others := wanted.keys() ^ found.keys():
        raise ValueError(f"{what} is of another kind or depth: one of the two models only has {min(others)}")
    shapes = {name: (tuple(tensor.shape), tuple(wanted[name].shape)) for name, tensor in found.items()}
    refuse_misfits(f"{what} does not fit", shapes)
    model.vision_tower.load_state_dict(tower.vision_tower.state_dict())
