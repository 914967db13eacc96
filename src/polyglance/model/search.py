"""Greedy and beam decoding in which finished images leave the batch and beams share what belongs to their image.

The results are those of transformers' `generate`, whose loops go on computing a finished row until the last one ends
(and, where the padding id is 0, fill up finished beams with the end token). Everything before the loop (options, logits
processors, stopping criteria) stays transformers'; what these loops do not cover (sampling, returned scores, decoder
masks, no cache) goes to transformers' own.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import PrefixConstrainedLogitsProcessor

from polyglance.model.attention import ATTENTION
from polyglance.model.cache import ImageCache

__all__ = ["Decoding"]

_NEVER = -1e9
"""Score of a hypothesis that is not there, as in transformers."""


@dataclass
class _Batch:
    """What the decoder reads for the images that are still being written about."""

    model: Any
    states: Float[Tensor, "B N E"]
    mask: Int[Tensor, "B N"] | None
    cache: ImageCache

    def next_logits(self, ids: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """Float32 logits of the token after the last one, for the ids that the cache does not hold yet."""
        decoded = self.model.decoder(
            input_ids=ids[:, self.cache.get_seq_length() :],
            encoder_hidden_states=self.states,
            encoder_attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        )
        return self.model.logits(decoded.last_hidden_state[:, -1]).float()

    def keep(self, images: Int[Tensor, " B"], rows: Int[Tensor, " R"], ids: Int[Tensor, "Q T"]) -> None:
        """Go on with these images and, in this order, with these of the rows whose ids were written so far."""
        if len(images) == len(self.states):
            agree = (ids == ids[rows]).all(dim=0)
            self.cache.reorder_cache(rows, start=int(agree.cumprod(dim=0).sum()))
            return
        self.states = self.states[images]
        self.mask = None if self.mask is None else self.mask[images]
        self.cache.select_images(images, rows)


class Decoding:
    """Mixed in before transformers' GenerationMixin: its `generate`, with the loops of this module."""

    config: Any

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        if self.config.decoder_config._attn_implementation != ATTENTION or "decoder_attention_mask" in model_kwargs:
            return super()._expand_inputs_for_generation(  # type: ignore[misc]
                expand_size, is_encoder_decoder, input_ids, **model_kwargs
            )
        return input_ids.repeat_interleave(expand_size, dim=0), model_kwargs

    def _sample(
        self,
        input_ids: Int[Tensor, "B T"],
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        if generation_config.do_sample or not _is_covered(self, logits_processor, generation_config, kwargs):
            return super()._sample(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)  # type: ignore[misc]
        batch = _Batch(self, kwargs["encoder_outputs"][0], kwargs.get("attention_mask"), kwargs["past_key_values"])
        pad = int(generation_config.pad_token_id or 0)
        return _greedy(batch, input_ids, logits_processor, stopping_criteria, pad)

    def _beam_search(
        self,
        input_ids: Int[Tensor, "R T"],
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        if generation_config.do_sample or not _is_covered(self, logits_processor, generation_config, kwargs):
            found = super()._beam_search(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)  # type: ignore[misc]
            return _padded(found, input_ids.shape[1], generation_config) if isinstance(found, Tensor) else found
        batch = _Batch(self, kwargs["encoder_outputs"][0], kwargs.get("attention_mask"), kwargs["past_key_values"])
        return _beams(batch, input_ids, logits_processor, stopping_criteria, generation_config)


def _padded(ids: Int[Tensor, "R L"], prompt: int, options: GenerationConfig) -> Int[Tensor, "R L"]:
    """Padding after the first end token: where the padding id is 0, transformers fills up with the end token."""
    if options._eos_token_tensor is None:
        return ids
    ended = torch.isin(ids[:, prompt:], options._eos_token_tensor).int().cumsum(dim=1)
    after = torch.nn.functional.pad(ended, (prompt + 1, 0))[:, :-1] > 0
    return ids.masked_fill(after, int(options.pad_token_id or 0))


def _is_covered(model: Any, processors: LogitsProcessorList, options: GenerationConfig, kwargs: dict[str, Any]) -> bool:
    return (
        model.config.decoder_config._attn_implementation == ATTENTION
        and isinstance(kwargs.get("past_key_values"), ImageCache)
        and not options.return_dict_in_generate
        and not kwargs.get("synced_gpus")
        and kwargs.get("streamer") is None
        and kwargs.get("decoder_attention_mask") is None
        and not any(isinstance(processor, PrefixConstrainedLogitsProcessor) for processor in processors)
    )


def _greedy(
    batch: _Batch,
    ids: Int[Tensor, "B T"],
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    pad: int,
) -> Int[Tensor, "B L"]:
    images = torch.arange(len(ids), device=ids.device)
    written: list[Tensor] = [ids.new_empty(0)] * len(ids)
    while len(images):
        chosen = processors(ids, batch.next_logits(ids)).argmax(dim=-1)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        done = criteria(ids, None)
        for row in done.nonzero()[:, 0].tolist():
            written[int(images[row])] = ids[row]
        if done.any():
            left = (~done).nonzero()[:, 0]
            batch.keep(left, left, ids)
            images, ids = images[left], ids[left]
    return torch.nn.utils.rnn.pad_sequence(written, batch_first=True, padding_value=pad)


def _beams(
    batch: _Batch,
    ids: Int[Tensor, "R T"],
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    options: GenerationConfig,
) -> Int[Tensor, "_ L"]:
    """Rows of one image lie side by side: row `image * K + beam`. Every step looks at the 2 K best continuations of an
    image (each of its beams can end, and K must go on); only the K best of them may end."""
    beams, prompt = options.num_beams, ids.shape[1]
    width = max(2, 1 + len(options._eos_token_tensor if options._eos_token_tensor is not None else ())) * beams
    found = [_Hypotheses(beams) for _ in range(len(ids) // beams)]
    images = torch.arange(len(found), device=ids.device)
    scores = torch.full((len(found), beams), _NEVER, device=ids.device)
    scores[:, 0] = 0.0  # the beams start as copies: only one of them may be continued
    while len(images):
        log_probs = processors(ids, batch.next_logits(ids).log_softmax(dim=-1))
        totals, best = _top(log_probs + scores.view(-1, 1), len(images), width)
        parents = best // log_probs.shape[1] + torch.arange(len(images), device=ids.device)[:, None] * beams
        candidates = torch.cat([ids[parents], (best % log_probs.shape[1])[..., None]], dim=2)
        ended = criteria(candidates.flatten(0, 1), None).view(len(images), width)
        length = candidates.shape[2] - prompt
        _add_ended(found, images, candidates, totals / length**options.length_penalty, ended, beams)

        scores, going_on = (totals + ended * _NEVER).topk(beams)
        reach = (
            options.max_length - prompt if options.early_stopping == "never" and options.length_penalty > 0 else length
        )
        hopes = (scores[:, 0] / reach**options.length_penalty).tolist()
        over = ended.all(dim=1).tolist()
        left = [
            row
            for row, image in enumerate(images.tolist())
            if not over[row] and not found[image].is_settled(hopes[row], options.early_stopping)
        ]
        images, kept = images[left], torch.tensor(left, dtype=torch.long, device=ids.device)
        scores, going_on = scores[kept], going_on[kept]
        batch.keep(kept, parents[kept].gather(1, going_on).flatten(), ids)
        ids = candidates[kept[:, None], going_on].flatten(0, 1)
    rows = [row for hypotheses in found for row in hypotheses.best(options.num_return_sequences)]
    pad = int(options.pad_token_id or 0)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)


def _top(values: Float[Tensor, "R V"], images: int, number: int) -> tuple[Float[Tensor, "B C"], Int[Tensor, "B C"]]:
    """The largest values among all rows of an image, and where they are. Only groups whose maximum is among the
    largest maxima can hold one, and finding these is much faster than `topk` over a vocabulary."""
    values = values.view(images, -1)
    size = 128
    if values.shape[1] % size or values.shape[1] < 32 * number * size:
        return values.topk(number)
    groups = values.view(images, -1, size)
    rows = groups.amax(dim=2).topk(number).indices
    largest, places = groups.gather(1, rows[..., None].expand(-1, -1, size)).flatten(1).topk(number)
    return largest, rows.gather(1, places // size) * size + places % size


class _Hypotheses:
    """The best finished sequences of one image, at most as many as there are beams."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[tuple[float, Tensor]] = []

    def add(self, score: float, ids: Int[Tensor, " L"]) -> None:
        self._held.append((score, ids))
        self._held.sort(key=lambda entry: -entry[0])
        del self._held[self._size :]

    def best(self, number: int) -> list[Int[Tensor, " L"]]:
        return [ids for _, ids in self._held[:number]]

    def is_settled(self, hope: float, early_stopping: bool | str) -> bool:
        """Whether a running beam that may reach the score `hope` is not worth going on with."""
        return len(self._held) == self._size and (early_stopping is True or hope <= self._held[-1][0])


def _add_ended(
    found: list[_Hypotheses], images: Tensor, candidates: Tensor, scores: Tensor, ended: Tensor, beams: int
) -> None:
    for row, rank in ended[:, :beams].nonzero().tolist():
        found[int(images[row])].add(float(scores[row, rank]), candidates[row, rank])
