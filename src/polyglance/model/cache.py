"""Cache of keys and values for decoding: written in place, and shared by the beams of an image."""

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    EncoderDecoderCache,
    QuantizedCache,
    StaticCache,
)
from transformers.modeling_outputs import Seq2SeqLMOutput

__all__ = ["CACHE_ARGUMENT", "GrowingLayer", "ImageCache", "make_cache"]

CACHE_ARGUMENT = "cache" if "cache" in {field.name for field in fields(Seq2SeqLMOutput)} else "past_key_values"
"""Name of the argument and output of transformers' layers for the cache: `cache` from 5.24 on."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one decoder layer, in a buffer that is doubled when it is full.

    The library's layer concatenates, so that every token copies all tokens before it; here a token costs the same at
    every length. All tokens are kept for Gemma-2's sliding layers too; masks apply the window.
    """

    def update(
        self,
        key_states: Float[Tensor, "R H T K"],
        value_states: Float[Tensor, "R H T K"],
        *args: object,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Float[Tensor, "R H S K"], Float[Tensor, "R H S K"]]:
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [_new_buffer(key_states, end), _new_buffer(value_states, end)]
        elif end > self._buffers[0].shape[2]:
            grown = [_new_buffer(buffer, end) for buffer in self._buffers]
            for new, old in zip(grown, (self.keys, self.values), strict=True):
                new[:, :, :start] = old
            self._buffers = grown
        self._buffers[0][:, :, start:end] = key_states
        self._buffers[1][:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Int[Tensor, " R"], start: int = 0) -> None:
        """Copy to each row the row that it continues, from position `start` on; before it they are equal."""
        for states in (self.keys, self.values):
            states[:, :, start:] = states[beam_idx, :, start:]

    def batch_select_indices(self, indices: Int[Tensor, " R"]) -> None:
        length = self.get_seq_length()
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class ImageCache(EncoderDecoderCache):  # type: ignore[misc]
    """Keys and values of the decoder: of the tokens of every beam, and of the encoder's states of every image, which
    the image's beams share."""

    def __init__(self) -> None:
        super().__init__(Cache(layer_class_to_replicate=GrowingLayer), DynamicCache())

    def reorder_cache(self, beam_idx: Int[Tensor, " R"], start: int = 0) -> None:
        """Copy to each beam the beam that it continues. Beams stay with their image, whose keys are not copied.

        Args:
            beam_idx: for each row the row that it continues.
            start: position up to which these rows are equal.
        """
        for layer in self.self_attention_cache.layers:
            layer.reorder_cache(beam_idx, start)

    def select_images(self, images: Int[Tensor, " B"], rows: Int[Tensor, " R"]) -> None:
        """Keep the encoder's keys of these images, and the tokens' keys of these rows."""
        self.self_attention_cache.batch_select_indices(rows)
        self.cross_attention_cache.batch_select_indices(images)


def make_cache(
    kind: str | None = None,
    *,
    config: Any = None,
    max_length: int = 0,
    options: Mapping[str, Any] | None = None,
) -> EncoderDecoderCache:
    """Make a cache for transformers' loops. The encoder's keys are kept whole, whatever the kind.

    Args:
        kind: `cache_implementation` of transformers' `generate`. None: all tokens are kept, and masks apply Gemma-2's
            sliding window.
        config: the decoder's (static and quantised caches).
        max_length: longest text in tokens (static caches).
        options: further arguments of a quantised cache (`cache_config` of `generate`).

    Raises:
        ValueError: a kind that is not known, or options that it does not take.
    """
    is_offloaded = kind is not None and kind.startswith("offloaded")
    if options and kind != "quantized":
        raise ValueError("cache_config would have no effect: only a quantised cache takes it")
    if kind in (None, "dynamic", "offloaded"):
        texts: Cache = DynamicCache(offloading=is_offloaded)
    elif kind in ("static", "offloaded_static"):
        texts = StaticCache(config=config, max_cache_len=max_length, offloading=is_offloaded)
    elif kind == "quantized":
        values = dict(options or {})
        whole = copy.deepcopy(config)  # the library does not quantise sliding layers; masks apply their window
        if getattr(whole, "layer_types", None) is not None:
            whole.layer_types, whole.sliding_window = ["full_attention"] * whole.num_hidden_layers, None
        texts = QuantizedCache(values.pop("backend", "quanto"), whole, **values)
    else:
        known = "dynamic, static, offloaded, offloaded_static, quantized"
        raise ValueError(f"no cache of kind {kind!r}; known: {known}")
    return EncoderDecoderCache(texts, DynamicCache(offloading=is_offloaded))


def _new_buffer(states: Tensor, length: int) -> Tensor:
    rows, heads, _, width = states.shape
    return torch.empty(rows, heads, max(64, 2 * length), width, dtype=states.dtype, device=states.device)
