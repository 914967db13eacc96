"""Greedy and beam search in tensors of fixed shape, for GPUs: a step asks the host for nothing, and is a CUDA graph.

A step of a small batch takes a GPU less time than a program in Python takes to launch its kernels. Here everything that
a step reads and writes lies in a `_Bucket`: keys and values for the longest text, the texts so far, their scores, the
finished texts. So a step is captured once for each bucket and replayed from then on. The host looks every few steps
which images are finished; when half of them are, the others go on in a bucket of half the size.

The ids equal those of the loops in `polyglance.model.decoding`, which are faster on a CPU.
"""

import gc
import sys
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from polyglance.error_text import first_line
from polyglance.model.architecture import Polyglance
from polyglance.model.attention import is_soft_capped
from polyglance.model.cache import CACHE_ARGUMENT
from polyglance.model.search_options import NEVER, SearchOptions, find_top

__all__ = ["search_in_buckets"]

_CHECK_EVERY = 8
"""Steps between two looks at what is finished: each makes the host wait for the device."""
_STATES_MULTIPLE = 32
"""Encoder states are padded to a multiple of this many, so that batches share a bucket."""
_NUM_BUCKETS = 8
"""Buckets that are kept for each model, with their memory and graphs; the one unused for longest goes first."""
_WARMUP_STEPS = 2
"""Steps before a graph is captured: libraries allocate and choose kernels in them."""
_LOWEST = -1e300
"""Score below that of any text; minus infinity marks the place of a text that is not there."""


def search_in_buckets(
    model: Polyglance,
    states: Float[Tensor, "B N E"],
    mask: Int[Tensor, "B N"] | None,
    start_ids: Int[Tensor, "B P"],
    options: SearchOptions,
) -> list[Int[Tensor, " _"]]:
    """Write the best texts of each image, `num_return_sequences` for each, as `polyglance.model.decoding` does."""
    count = len(states)
    size = 1 << (count - 1).bit_length()
    bucket = _find_bucket(model, size, states, options)
    bucket.begin(states, mask, start_ids)
    images = list(range(count))
    texts: dict[int, list[Tensor]] = {}
    for step in range(options.max_new_tokens):
        bucket.run_step()
        if (step + 1) % _CHECK_EVERY and step + 1 < options.max_new_tokens:
            continue
        running = [row for row, is_done in enumerate(bucket.done.tolist()) if not is_done]
        if 2 * len(running) > bucket.size:
            continue
        texts |= bucket.harvest(images, left_out=running)
        if not running:
            break
        smaller = _find_bucket(model, 1 << (len(running) - 1).bit_length(), states, options)
        smaller.take_over(bucket, running)
        bucket, images = smaller, [images[row] for row in running]
    texts |= bucket.harvest(images)
    return [text for image in range(count) for text in texts[image]]


class _StaticLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one decoder layer in a buffer for the longest text, written at `position`."""

    def __init__(self, length: int, position: Int[Tensor, ""]) -> None:
        super().__init__()
        self._length, self._position = length, position

    def update(
        self,
        key_states: Float[Tensor, "R H T K"],
        value_states: Float[Tensor, "R H T K"],
        *args: object,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Float[Tensor, "R H L K"], Float[Tensor, "R H L K"]]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            rows, heads, _, width = key_states.shape
            self.keys, self.values = (key_states.new_zeros(rows, heads, self._length, width) for _ in range(2))
        places = self._position + torch.arange(key_states.shape[2], device=key_states.device)
        self.keys.index_copy_(2, places, key_states)
        self.values.index_copy_(2, places, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> Int[Tensor, ""]:
        return self._position

    def reorder_cache(self, beam_idx: Int[Tensor, " R"]) -> None:
        """Copy to each row the row that it continues."""
        for states in (self.keys, self.values):
            states.copy_(states.index_select(0, beam_idx))


class _StatesLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the encoder's states for one decoder layer: one row for each image."""

    def update(
        self,
        key_states: Float[Tensor, "B H N K"],
        value_states: Float[Tensor, "B H N K"],
        *args: object,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Float[Tensor, "B H N K"], Float[Tensor, "B H N K"]]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states.clone(), value_states.clone()
        else:
            self.keys.copy_(key_states)
            self.values.copy_(value_states)
        return self.keys, self.values


class _Bucket:
    """State of the search for a number of images, in tensors that keep their place, and the step that changes it.

    Letters: B images, K beams (1: greedy), R = B * K rows, T longest text, N encoder states, V vocabulary, W
    candidates.
    """

    def __init__(
        self, model: Polyglance, size: int, *, num_states: int, options: SearchOptions, device: torch.device
    ) -> None:
        self.size = size
        self._model = weakref.proxy(model)  # buckets are kept as long as the model, and must not keep it
        self._options, self._device = options, device
        beams, length = options.num_beams, options.num_start_ids + options.max_new_tokens
        self._length = length
        with torch.device(device):
            self.position = torch.zeros((), dtype=torch.long)
            """Number of tokens written."""
            self._cache_position = torch.zeros((), dtype=torch.long)
            self.ids = torch.zeros(size, beams, length, dtype=torch.long)
            self.scores = torch.zeros(size, beams)
            self.done = torch.zeros(size, dtype=torch.bool)
            self.finished_ids = torch.zeros(size, beams, length, dtype=torch.long)
            self.finished_lengths = torch.zeros(size, beams, dtype=torch.long)
            self.finished_scores = torch.zeros(size, beams, dtype=torch.float64)
            self._sees_states = torch.zeros(size, 1, 1, num_states, dtype=torch.bool)
            self._end_ids = options.end_ids.to(device)
            penalty = options.length_penalty
            powers = [float(max(1, n - options.num_start_ids)) ** penalty for n in range(length + 1)]
            self._powers = torch.tensor(powers, dtype=torch.float64)
            can_grow = options.early_stopping == "never" and penalty > 0
            bounds = [float(options.max_new_tokens) ** penalty] * len(powers) if can_grow else powers
            self._bound_powers = torch.tensor(bounds, dtype=torch.float32)
        decoder = model.config.decoder_config
        self._num_layers = model.config.num_hidden_layers
        self._is_capped = is_soft_capped(decoder)
        self._window = getattr(decoder, "sliding_window", None) if hasattr(decoder, "layer_types") else None
        self._cache = EncoderDecoderCache(
            Cache(layers=[_StaticLayer(length, self._cache_position) for _ in range(self._num_layers)]),
            Cache(layers=[_StatesLayer() for _ in range(self._num_layers)]),
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._num_eager_steps = 0
        self._has_failed = False

    def begin(
        self, states: Float[Tensor, "B N E"], mask: Int[Tensor, "B N"] | None, start_ids: Int[Tensor, "B P"]
    ) -> None:
        """Take images in; there may be fewer than the bucket holds. Their keys are computed here."""
        count, extra = len(states), self._sees_states.shape[3] - states.shape[1]
        real = torch.ones(states.shape[:2], dtype=torch.bool, device=self._device) if mask is None else mask.bool()
        fill = self._fill(count)
        states = F.pad(states, (0, 0, 0, extra))[fill]
        self._sees_states.copy_(F.pad(real, (0, extra))[fill][:, None, None])
        num_start_ids, beams = start_ids.shape[1], self._options.num_beams
        self.ids.zero_()
        self.ids[:, :, :num_start_ids] = start_ids[fill][:, None]
        self.position.fill_(num_start_ids)
        self.scores.fill_(NEVER)
        self.scores[:, 0] = 0.0  # the beams start as copies: only one of them may be continued
        self.done.copy_(torch.arange(self.size, device=self._device) >= count)
        self.finished_ids.zero_()
        self.finished_lengths.zero_()
        self.finished_scores.fill_(-torch.inf)
        self._cache.is_updated = {}
        self._cache_position.zero_()
        self._decode(self.ids[:, :, :num_start_ids].reshape(self.size * beams, -1), states)

    def take_over(self, other: "_Bucket", rows: list[int]) -> None:
        """Go on with these images of a larger bucket."""
        chosen = torch.tensor(rows, device=self._device)[self._fill(len(rows))]
        for name in ("ids", "scores", "finished_ids", "finished_lengths", "finished_scores", "_sees_states"):
            getattr(self, name).copy_(getattr(other, name)[chosen])
        self.done.copy_(torch.arange(self.size, device=self._device) >= len(rows))
        self.position.copy_(other.position)
        beams = self._options.num_beams
        beam_rows = (chosen[:, None] * beams + torch.arange(beams, device=self._device)).flatten()
        for mine, theirs, index in (
            (self._cache.self_attention_cache, other._cache.self_attention_cache, beam_rows),
            (self._cache.cross_attention_cache, other._cache.cross_attention_cache, chosen),
        ):
            for layer, source in zip(mine.layers, theirs.layers, strict=True):
                if not source.is_initialized:  # a layer without cross-attention
                    continue
                if not layer.is_initialized:
                    layer.lazy_initialization(source.keys, source.values)
                    layer.keys, layer.values = source.keys[index], source.values[index]
                else:
                    layer.keys.copy_(source.keys[index])
                    layer.values.copy_(source.values[index])
        self._cache.is_updated = dict(other._cache.is_updated)

    def harvest(self, images: list[int], *, left_out: list[int] | tuple[()] = ()) -> dict[int, list[Tensor]]:
        """Return image -> its best texts, for the rows that are not left out.

        Args:
            images: number of the image in each row; further rows only fill up the bucket.
        """
        lengths, number = self.finished_lengths.tolist(), self._options.num_return_sequences
        ids = self.finished_ids.clone()  # the bucket's own tensor is written again
        return {
            image: [ids[row, rank, : lengths[row][rank]] for rank in range(number) if lengths[row][rank]]
            for row, image in enumerate(images)
            if row not in left_out
        }

    def run_step(self) -> None:
        """Write one token of every text: as a graph on a GPU, once its first steps have run."""
        if self._graph is None and self._can_capture() and self._num_eager_steps >= _WARMUP_STEPS:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
        else:
            self.step()
            self._num_eager_steps += 1

    def _capture(self) -> None:
        """Make a step a graph. If the device cannot capture it, steps run as before, and a message says why.

        The stream is one of the bucket's device, which need not be the current one: what runs on another device than
        the stream's is not captured. Objects that Python frees while a graph is captured can end the capture. If the
        end of a capture raises, torch leaves the capture's stream current; the outer `stream` block sets the one before
        again.
        """
        gc.collect()
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            graph = torch.cuda.CUDAGraph()
            with (
                torch.cuda.device(self._device),
                torch.cuda.stream(torch.cuda.current_stream(self._device)),
                torch.cuda.graph(graph, stream=torch.cuda.Stream(self._device), capture_error_mode="thread_local"),
            ):
                self.step()
        except RuntimeError as error:  # torch.OutOfMemoryError is one: a graph keeps its own memory
            self._has_failed = True
            reason = first_line(error)
            print(f"decoding without a CUDA graph, which is slower: {reason}", file=sys.stderr, flush=True)
        else:
            self._graph = graph
        finally:
            if was_collecting:
                gc.enable()

    def step(self) -> None:
        """Write one token of every text. Every size is known beforehand, and nothing is read by the host."""
        options = self._options
        self._cache_position.copy_(self.position - 1)
        rows = self.ids.view(-1, self._length)
        hidden_states = self._decode(rows.index_select(1, self._cache_position[None]), None)
        logits = self._model.logits(hidden_states[:, -1]).float()
        if options.num_beams == 1:
            self._write_greedily(self._restrict(logits, rows))
        else:
            self._write_beams(self._restrict(logits.log_softmax(dim=-1), rows))
        self.position.add_(1)

    def _write_greedily(self, scores: Float[Tensor, "B V"]) -> None:
        chosen = scores.argmax(dim=-1)
        self.ids.index_copy_(2, self.position[None], chosen[:, None, None])
        ends_now = self._has_ended(chosen) & ~self.done
        self.finished_ids.copy_(torch.where(ends_now[:, None, None], self.ids, self.finished_ids))
        self.finished_lengths.copy_(torch.where(ends_now[:, None], self.position + 1, self.finished_lengths))
        self.done.logical_or_(ends_now)

    def _write_beams(self, log_probs: Float[Tensor, "R V"]) -> None:
        """Look at the best continuations of an image, of which the K best may end, and go on with K."""
        beams, vocabulary = self._options.num_beams, log_probs.shape[1]
        width = self._options.num_candidates
        totals, best = find_top(log_probs + self.scores.view(-1, 1), self.size, width)
        parents, tokens = best // vocabulary, best % vocabulary
        has_ended = self._has_ended(tokens)
        candidates = self._continue(parents, tokens)
        self._finish(totals[:, :beams], candidates[:, :beams], has_ended[:, :beams] & ~self.done[:, None])

        scores, running = (totals + has_ended * NEVER).topk(beams)
        bounds = scores[:, 0] / self._look_up(self._bound_powers)
        worst = self.finished_scores[:, -1]
        is_final = worst > -torch.inf
        if self._options.early_stopping is not True:
            is_final = is_final & (bounds.double() <= worst)
        self.done.logical_or_(is_final | has_ended.all(dim=1))
        self.scores.copy_(scores)
        self.ids.copy_(candidates.gather(1, running[..., None].expand(-1, -1, self._length)))
        first_rows = torch.arange(self.size, device=self._device)[:, None] * beams
        self._cache.self_attention_cache.reorder_cache((first_rows + parents.gather(1, running)).flatten())

    def _look_up(self, powers: Float[Tensor, " T"]) -> Float[Tensor, "1"]:
        """Return the value at the length that texts have after this step. An index in brackets would be read by the
        host."""
        return powers.index_select(0, self.position[None] + 1)

    def _continue(self, parents: Int[Tensor, "B W"], tokens: Int[Tensor, "B W"]) -> Int[Tensor, "B W T"]:
        texts = self.ids.gather(1, parents[..., None].expand(-1, -1, self._length))
        return texts.index_copy(2, self.position[None], tokens[..., None])

    def _finish(self, totals: Float[Tensor, "B K"], texts: Int[Tensor, "B K T"], ends_now: Bool[Tensor, "B K"]) -> None:
        """Keep the K best of the finished texts and those that end now; of equal ones the earlier."""
        scores = (totals.double() / self._look_up(self._powers)).clamp(min=_LOWEST)
        scores = torch.where(ends_now, scores, -torch.inf)
        every = torch.cat([self.finished_scores, scores], dim=1).sort(dim=1, descending=True, stable=True)
        order = every.indices[:, : totals.shape[1]]
        lengths = (self.position + 1).expand_as(self.finished_lengths)
        self.finished_scores.copy_(every.values[:, : totals.shape[1]])
        self.finished_lengths.copy_(torch.cat([self.finished_lengths, lengths], dim=1).gather(1, order))
        texts = torch.cat([self.finished_ids, texts], dim=1)
        self.finished_ids.copy_(texts.gather(1, order[..., None].expand(-1, -1, self._length)))

    def _restrict(self, scores: Float[Tensor, "R V"], ids: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """Set the scores of tokens that must not follow the text so far to minus infinity, in place."""
        options, size = self._options, self._options.no_repeat_ngram_size
        if 0 < size <= self._length:
            windows = ids.unfold(1, size, 1)
            last = (self.position - size + 1 + torch.arange(size - 1, device=self._device)).clamp(min=0)
            is_repeated = (windows[:, :, :-1] == ids.index_select(1, last)[:, None]).all(dim=2)
            is_repeated &= torch.arange(windows.shape[1], device=self._device) + size <= self.position
            bounds = torch.full_like(is_repeated, torch.inf, dtype=scores.dtype).masked_fill(is_repeated, -torch.inf)
            scores.scatter_reduce_(1, windows[:, :, -1], bounds, "amin")
        if options.min_new_tokens and len(self._end_ids):
            is_early = self.position - options.num_start_ids < options.min_new_tokens
            penalty = torch.where(is_early, -torch.inf, 0.0).to(scores.dtype)
            scores.index_add_(1, self._end_ids, penalty.expand(len(scores), len(self._end_ids)))
        return scores

    def _has_ended(self, tokens: Int[Tensor, "*rows"]) -> Bool[Tensor, "*rows"]:
        is_last = self.position + 1 - self._options.num_start_ids >= self._options.max_new_tokens
        return (tokens[..., None] == self._end_ids).any(dim=-1) | is_last

    def _decode(self, ids: Int[Tensor, "R P"], states: Float[Tensor, "B N E"] | None) -> Float[Tensor, "R P D"]:
        """Compute hidden states of the ids at the cache's position.

        Args:
            states: encoder states, from which the keys are computed; None: they are there.
        """
        if states is None:  # the layers look whether there are any
            states = self.scores.new_empty(self.size, 0, 0)
        decoded = self._model.decoder(
            input_ids=ids,
            attention_mask=self._make_text_masks(ids.shape[1]),
            encoder_hidden_states=states,
            encoder_attention_mask=self._make_mask(self._sees_states.expand(-1, -1, ids.shape[1], -1)),
            use_cache=True,
            **{CACHE_ARGUMENT: self._cache},
        )
        return decoded.last_hidden_state

    def _make_text_masks(self, num_queries: int) -> Tensor | dict[str, Tensor]:
        """Make the masks of the tokens at the cache's position over all places of the buffer."""
        keys = torch.arange(self._length, device=self._device)
        queries = self._cache_position + torch.arange(num_queries, device=self._device)[:, None]
        is_before = (keys <= queries)[None, None]
        if self._window is None:
            return self._make_mask(is_before)
        is_near = (queries - keys < self._window)[None, None]
        masks: Mapping[str, Tensor] = {"full_attention": is_before, "sliding_attention": is_before & is_near}
        return {name: self._make_mask(mask) for name, mask in masks.items()}

    def _make_mask(self, is_seen: Bool[Tensor, "B 1 T S"]) -> Tensor:
        """Turn a mask into what `polyglance.model.attention` takes: with a soft-cap it is added to the scores."""
        if not self._is_capped:
            return is_seen
        dtype = self._model.lm_head.weight.dtype
        lowest = torch.finfo(dtype).min
        return torch.where(is_seen, 0.0, lowest).to(dtype)

    def _fill(self, count: int) -> Int[Tensor, " B"]:
        """Return the given row that each row of the bucket holds: rows beyond hold the first one, and are not read."""
        rows = torch.arange(self.size, device=self._device)
        return torch.where(rows < count, rows, 0)

    def _can_capture(self) -> bool:
        """Tell whether a step can become a graph: weights stay where they are, and are not cast in it."""
        return self._device.type == "cuda" and not self._has_failed and not torch.is_autocast_enabled("cuda")


_BUCKETS: weakref.WeakKeyDictionary[Polyglance, OrderedDict[Hashable, _Bucket]] = weakref.WeakKeyDictionary()


def _find_bucket(model: Polyglance, size: int, states: Float[Tensor, "B N E"], options: SearchOptions) -> _Bucket:
    """Return the model's bucket of this size for such states and options; a new one if there is none.

    A sharded model's weights are elsewhere in every call, so that nothing is kept for it.
    """
    num_states = -(-states.shape[1] // _STATES_MULTIPLE) * _STATES_MULTIPLE
    weights = [*model.decoder.parameters(), model.lm_head.weight]
    if any(isinstance(weight, DTensor) for weight in weights):
        return _Bucket(model, size, num_states=num_states, options=options, device=states.device)
    places = tuple(weight.data_ptr() for weight in weights)
    autocast = torch.is_autocast_enabled(states.device.type)
    key = (size, num_states, options.key(), states.dtype, states.device, autocast, places)
    kept = _BUCKETS.setdefault(model, OrderedDict())
    if key not in kept:
        kept[key] = _Bucket(model, size, num_states=num_states, options=options, device=states.device)
        if len(kept) > _NUM_BUCKETS:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
