"""Decoding: cached against recomputed, cost per token along the length, and the distance to the machine's limits.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py

All figures come from one run on one thread and are CPU seconds, so that other programs disturb them little. The model
is random: 57M parameters, vocabulary 32,000. The published way is without a cache: the whole prefix and all its logits
are computed again for every token of every beam, and encoder states are repeated for each beam.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import BartConfig, ViTConfig

from polyglance.model import Polyglance, PolyglanceConfig
from polyglance.model.components import count_parameters
from polyglance.model.decoding import decode_ids

BEAMS, NEW_TOKENS, IMAGES = 4, 64, 4


def build_model() -> Polyglance:
    sizes = {
        "d_model": 512, "encoder_layers": 4, "decoder_layers": 6, "encoder_attention_heads": 8,
        "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
        "max_position_embeddings": 512, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
        "forced_eos_token_id": None, "use_cache": False,
    }  # fmt: skip
    torch.manual_seed(0)
    return Polyglance(
        PolyglanceConfig(
            ViTConfig(hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1024,
                      image_size=112, patch_size=16),
            BartConfig(vocab_size=1000, **sizes),
            BartConfig(vocab_size=32_000, **sizes),
            decoder_start_token_id=2,
        )
    ).eval()  # fmt: skip


def make_inputs(images: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(images, 3, 112, 112, generator=generator),
        "input_ids": torch.randint(3, 1000, (images, 16), generator=generator),
        "decoder_input_ids": torch.full((images, 1), 2),
    }


def generate(network: Polyglance, images: int, new_tokens: int = NEW_TOKENS, beams: int = BEAMS) -> Tensor:
    given = make_inputs(images)
    with torch.no_grad():
        states, mask = network.encode(given["pixel_values"], given["input_ids"])
    start_ids = given["decoder_input_ids"]
    return decode_ids(
        network, states, mask, start_ids, num_beams=beams, max_new_tokens=new_tokens, min_new_tokens=new_tokens
    )


def generate_as_published(network: Polyglance, images: int) -> Tensor:
    network.set_attn_implementation({"decoder_config": "eager"})
    options: dict[str, Any] = {
        "max_new_tokens": NEW_TOKENS,
        "min_new_tokens": NEW_TOKENS,
        "num_beams": BEAMS,
        "do_sample": False,
    }
    ids = network.generate(**make_inputs(images), **options, use_cache=False)
    network.set_attn_implementation({"decoder_config": "polyglance"})
    return ids


def measure_seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def measure_step(network: Polyglance, images: int, start: int, steps: int = 32, beams: int = 1) -> float:
    """Measure seconds per step between `start` and `start + steps` tokens."""
    longer = measure_seconds(lambda: generate(network, images, start + steps, beams))
    return (longer - measure_seconds(lambda: generate(network, images, start, beams))) / steps


def measure_reading() -> float:
    block = torch.ones(2**26)
    return block.nbytes / measure_seconds(lambda: block.sum(), repeats=5)


def measure_product(rows: int) -> float:
    """Measure the rate of the matrix product that a decoder's feed-forward layer does for this many rows."""
    left, right = torch.randn(rows, 512), torch.randn(512, 2**13)
    return 20 * rows * 512 * 2**13 / measure_seconds(lambda: [left @ right for _ in range(20)], repeats=5)


def compare_with_published(network: Polyglance, images: int) -> None:
    start = time.process_time()
    expected = generate_as_published(network, images)
    slow = time.process_time() - start
    fast = measure_seconds(lambda: generate(network, images))
    print(
        f"{images} image(s), {BEAMS} beams, {NEW_TOKENS} new tokens: published way {slow:.2f} s, cached {fast:.2f} s, "
        f"{slow / fast:.1f} x faster, same ids: {torch.equal(expected, generate(network, images))}"
    )


def compare_with_limits(network: Polyglance) -> None:
    """Compare one sequence with reading the decoder's weights once, and many with the matrix products of their step."""
    num_weights = sum(p.numel() for name, p in network.decoder.named_parameters() if "embed_positions" not in name)
    single, limit = measure_step(network, 1, 8), 4 * num_weights / measure_reading()
    print(
        f"one sequence: {single * 1e3:.1f} ms a token; reading the weights once takes {limit * 1e3:.1f} ms, "
        f"{limit / single:.0%} of it"
    )
    rows = 32
    batched, limit = measure_step(network, rows, 8), rows * num_weights / measure_product(rows)
    print(
        f"{rows} sequences: {batched * 1e3:.1f} ms a step; its matrix products alone take {limit * 1e3:.1f} ms, "
        f"{limit / batched:.0%} of it"
    )


def main() -> None:
    network = build_model()
    print(f"{count_parameters(network):,} parameters, {torch.get_num_threads()} thread(s)")
    compare_with_published(network, 1)
    compare_with_published(network, IMAGES)
    half = NEW_TOKENS // 2
    early, late = (measure_step(network, IMAGES, start, steps=half - 1, beams=BEAMS) for start in (1, half))
    print(
        f"cost per token, {IMAGES * BEAMS} rows: {early * 1e3:.1f} ms in the first half, {late * 1e3:.1f} ms in the "
        f"second, ratio {late / early:.2f}"
    )
    compare_with_limits(network)


if __name__ == "__main__":
    main()
