"""Greedy and beam search in which finished images leave the batch and the beams of an image share its keys.

The ids equal those of transformers' `generate`, whose loops compute a finished row until the last one ends, and store
the encoder's keys once for each beam. For sampling, returned scores and the like there is `Polyglance.generate`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from polyglance.model.architecture import Polyglance
from polyglance.model.attention import ATTENTION
from polyglance.model.cache import ImageCache
from polyglance.model.search_options import NEVER, SearchOptions, find_top
from polyglance.model.static_search import search_in_buckets

__all__ = ["decode_ids"]


@torch.no_grad()
def decode_ids(
    model: Polyglance,
    states: Float[Tensor, "B N E"],
    mask: Int[Tensor, "B N"] | None,
    start_ids: Int[Tensor, "B P"],
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    num_beams: int = 1,
    num_return_sequences: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    no_repeat_ngram_size: int = 0,
    **unknown: Any,
) -> Int[Tensor, "_ L"]:
    """Write the most probable text for each image and prompt: its ids, the start ids included, padded on the right.

    Args:
        states, mask: as `Polyglance.encode` returns them.
        start_ids: ids that every text begins with, the decoder's start token first.
        max_new_tokens: longest text after the start ids, in tokens, the end token included.
        min_new_tokens: number of tokens before which no text ends.
        num_beams: beams; 1 is greedy.
        num_return_sequences: texts for each image, the best first; at most `num_beams`.
        length_penalty: exponent of the length that a beam's log-probability is divided by.
        early_stopping: True: stop once `num_beams` texts are finished; False: stop once no running beam, divided by its
            present length, is better than these; "never": once none can become better at any length.
        no_repeat_ngram_size: no sequence of so many tokens comes twice in a text, start ids included; 0 allows it.

    Raises:
        ValueError: an option that is unknown or out of range, or a setting in the model's generation_config that
            would not be followed.
    """
    if unknown:
        raise ValueError(f"decoding has no option {min(unknown)!r}; `Polyglance.generate` takes those of transformers")
    _check_generation_config(model.generation_config)
    options = _Options(
        num_start_ids=start_ids.shape[1],
        end_ids=_end_ids(model.generation_config).to(start_ids.device),
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        num_beams=num_beams,
        num_return_sequences=num_return_sequences,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        no_repeat_ngram_size=no_repeat_ngram_size,
    )
    can_share = model.config.decoder_config._attn_implementation == ATTENTION  # other kinds cannot share keys of rows
    if can_share and _use_buckets(states.device):
        rows = search_in_buckets(model, states, mask, start_ids, options)
        return pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id or 0)
    if not can_share:
        states = states.repeat_interleave(num_beams, dim=0)
        mask = None if mask is None else mask.repeat_interleave(num_beams, dim=0)
    batch = _Batch(model, states, mask, ImageCache())
    ids = start_ids.repeat_interleave(num_beams, dim=0)
    rows = _search_greedily(batch, ids, options) if num_beams == 1 else _search_with_beams(batch, ids, options)
    return pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id or 0)


def _use_buckets(device: torch.device) -> bool:
    """Tell whether to search in tensors of fixed shape: on a GPU, where launches cost more than sums over padding."""
    return device.type == "cuda"


_FOLLOWED = {"bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"}
_STATED = {"early_stopping", "length_penalty", "max_length", "max_new_tokens", "no_repeat_ngram_size", "num_beams"}
_WITHOUT_EFFECT = {
    *("_from_model_config", "output_attentions", "output_hidden_states", "transformers_version", "use_cache"),
}


def _check_generation_config(settings: GenerationConfig) -> None:
    """Refuse a generation_config.json with a setting that is neither followed, nor stated by callers of `decode_ids`,
    nor without effect on the ids."""
    unknown = set(settings.to_diff_dict()) - _FOLLOWED - _STATED - _WITHOUT_EFFECT
    if unknown:
        raise ValueError(
            f"the model's generation_config sets {min(unknown)!r}, which decoding does not follow: remove it, or call "
            "`Polyglance.generate`"
        )


def _end_ids(settings: GenerationConfig) -> Int[Tensor, " E"]:
    ids = settings.eos_token_id
    return torch.tensor([] if ids is None else [ids] if isinstance(ids, int) else ids, dtype=torch.long)


class _Options(SearchOptions):
    """Options and their effect on scores and texts of a growing length."""

    def restrict(self, scores: Float[Tensor, "R V"], ids: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """Set the scores of tokens that must not follow `ids` to minus infinity, in place."""
        size, length = self.no_repeat_ngram_size, ids.shape[1]
        if 0 < size <= length:
            windows = ids.unfold(1, size, 1)
            is_repeated = (windows[:, :, :-1] == ids[:, None, length - size + 1 :]).all(dim=2)
            bounds = torch.full_like(is_repeated, torch.inf, dtype=scores.dtype).masked_fill(is_repeated, -torch.inf)
            scores.scatter_reduce_(1, windows[:, :, -1], bounds, "amin")
        if length - self.num_start_ids < self.min_new_tokens:
            scores[:, self.end_ids] = -torch.inf
        return scores

    def has_ended(self, ids: Int[Tensor, "*rows T"]) -> Bool[Tensor, "*rows"]:
        """Mark the rows whose last token is an end token or the last one allowed."""
        has_ended = torch.isin(ids[..., -1], self.end_ids)
        return has_ended | (ids.shape[-1] - self.num_start_ids >= self.max_new_tokens)


@dataclass
class _Batch:
    """Model, encoder states and cache of the images whose texts are not finished."""

    model: Polyglance
    states: Float[Tensor, "S N E"]
    """Encoder states: one row for each image, or, where the decoder's attention cannot share them, for each beam."""
    mask: Int[Tensor, "S N"] | None
    cache: ImageCache

    def compute_logits(self, ids: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """Compute float32 logits of the token after the last one, from the ids that the cache does not hold yet."""
        new_ids = ids[:, self.cache.get_seq_length() :]
        hidden_states = self.model.decode(new_ids, self.states, self.mask, cache=self.cache)
        return self.model.logits(hidden_states[:, -1]).float()

    def keep(self, images: Int[Tensor, " B"], rows: Int[Tensor, " R"], ids: Int[Tensor, "Q T"]) -> None:
        """Continue with these images and, in this order, with these of the rows whose ids were written so far."""
        if len(rows) == len(ids):
            agree = (ids == ids[rows]).all(dim=0)
            self.cache.reorder_cache(rows, start=int(agree.cumprod(dim=0).sum()))
            return
        kept = images if len(self.states) < len(ids) else rows
        self.states = self.states[kept]
        self.mask = None if self.mask is None else self.mask[kept]
        self.cache.select_images(kept, rows)


def _search_greedily(batch: _Batch, ids: Int[Tensor, "B T"], options: _Options) -> list[Int[Tensor, " _"]]:
    """Write the most probable token after each row until all rows have ended."""
    images = torch.arange(len(ids), device=ids.device)
    texts: list[Tensor] = [ids.new_empty(0)] * len(ids)
    while len(images):
        chosen = options.restrict(batch.compute_logits(ids), ids).argmax(dim=-1)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        has_ended = options.has_ended(ids)
        for row in has_ended.nonzero()[:, 0].tolist():
            texts[int(images[row])] = ids[row]
        if has_ended.any():
            running = (~has_ended).nonzero()[:, 0]
            batch.keep(running, running, ids)
            images, ids = images[running], ids[running]
    return texts


def _search_with_beams(batch: _Batch, ids: Int[Tensor, "R T"], options: _Options) -> list[Int[Tensor, " _"]]:
    """Write the best texts of each image. Rows of one image lie side by side: row `image * K + beam`.

    Every step looks at the 2 K best continuations of an image (each of its beams can end, and K must go on); only the
    K best of them may end.
    """
    beams = options.num_beams
    width = options.num_candidates
    texts = [_FinishedTexts(beams) for _ in range(len(ids) // beams)]
    images = torch.arange(len(texts), device=ids.device)
    scores = torch.full((len(texts), beams), NEVER, device=ids.device)
    scores[:, 0] = 0.0  # the beams start as copies: only one of them may be continued
    while len(images):
        log_probs = options.restrict(batch.compute_logits(ids).log_softmax(dim=-1), ids)
        totals, best = find_top(log_probs + scores.view(-1, 1), len(images), width)
        parents = best // log_probs.shape[1] + torch.arange(len(images), device=ids.device)[:, None] * beams
        candidates = torch.cat([ids[parents], (best % log_probs.shape[1])[..., None]], dim=2)
        has_ended = options.has_ended(candidates)
        length = candidates.shape[2] - options.num_start_ids
        for row, rank in has_ended[:, :beams].nonzero().tolist():
            score = float(totals[row, rank]) / length**options.length_penalty
            texts[int(images[row])].add(score, candidates[row, rank])

        scores, running = (totals + has_ended * NEVER).topk(beams)
        can_grow = options.early_stopping == "never" and options.length_penalty > 0
        bounds = (scores[:, 0] / (options.max_new_tokens if can_grow else length) ** options.length_penalty).tolist()
        is_over = has_ended.all(dim=1).tolist()
        unfinished = [
            row
            for row, image in enumerate(images.tolist())
            if not is_over[row] and not texts[image].are_final(bounds[row], options.early_stopping)
        ]
        kept = torch.tensor(unfinished, dtype=torch.long, device=ids.device)
        images, scores, running = images[kept], scores[kept], running[kept]
        batch.keep(kept, parents[kept].gather(1, running).flatten(), ids)
        ids = candidates[kept[:, None], running].flatten(0, 1)
    return [row for finished in texts for row in finished.best(options.num_return_sequences)]


class _FinishedTexts:
    """The best finished texts of one image, at most as many as there are beams."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[tuple[float, Tensor]] = []

    def add(self, score: float, ids: Int[Tensor, " L"]) -> None:
        self._texts.append((score, ids))
        self._texts.sort(key=lambda text: -text[0])
        del self._texts[self._size :]

    def best(self, number: int) -> list[Int[Tensor, " L"]]:
        return [ids for _, ids in self._texts[:number]]

    def are_final(self, bound: float, early_stopping: bool | str) -> bool:
        """Tell whether no running beam, of which `bound` is the best score, is worth continuing."""
        return len(self._texts) == self._size and (early_stopping is True or bound <= self._texts[-1][0])
