"""Ambiguous sentences: only the image settles them, so a blind model is at chance and one that sees is not."""

import numpy as np
import torch

from polyglance.data.world import GRAMMARS, WorldConfig, make_ambiguous_pair, read_attributes, render
from polyglance.evaluate.disambiguation import measure_disambiguation
from polyglance.evaluate.loss import encode_labels, frame_prompts
from polyglance.mixture.collate import IGNORED, pad
from polyglance.mixture.prompts import write_prompt
from polyglance.mixture.tokenizer import Tokenizer, train_tokenizer
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

PAIRS = [make_ambiguous_pair("pairs", 0, index) for index in range(40)]


def _make_tokenizer() -> Tokenizer:
    texts = [text for pair in PAIRS for code in WorldConfig().languages for text in (*pair.texts(code), pair.source)]
    return train_tokenizer(
        [*texts, *(write_prompt("translation", code, source="a") for code in WorldConfig().languages)], vocab_size=1024
    )


def test_a_pair_differs_in_one_colour_that_its_sentence_leaves_out() -> None:
    for pair in PAIRS:
        said = read_attributes(pair.source, "en")
        for code in GRAMMARS:
            first, second = (read_attributes(text, code) for text in pair.texts(code))
            assert first["colour"][0] != second["colour"][0]
            assert said["colour"] == first["colour"][1:] == second["colour"][1:]
            for name in ("shape", "size", "relation"):
                assert said[name] == first[name] == second[name]
        one, other = (render(scene) for scene in pair.scenes)
        share = (one != other).any(-1).mean()
        assert 0 < share < 0.3, "the same picture but for one object"
        assert "  " not in pair.source


def test_a_blind_model_is_at_chance() -> None:
    tokenizer = _make_tokenizer()
    torch.manual_seed(2)
    model = Polyglance(MicroConfig(width=16).build(tokenizer.get_vocab_size())).eval()
    processor = Processor.for_model(model.config, tokenizer)
    seeing = measure_disambiguation(model, processor, PAIRS, "fr", max_target_tokens=64)
    with torch.no_grad():
        for parameter in model.vision_tower.parameters():
            parameter.zero_()
    blind = measure_disambiguation(model, processor, PAIRS, "fr", max_target_tokens=64)
    assert blind == 0.5
    assert seeing != blind


def test_a_model_that_has_learnt_the_pairs_settles_them() -> None:
    tokenizer, pairs = _make_tokenizer(), PAIRS[:4]
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(width=32).build(tokenizer.get_vocab_size()))
    processor = Processor.for_model(model.config, tokenizer)
    prompts = [write_prompt("translation", "de", source=pair.source) for pair in pairs for _ in pair.scenes]
    ids, mask = frame_prompts(processor, prompts, 96)
    pixels = np.stack([render(scene, 32) for pair in pairs for scene in pair.scenes])
    labels = pad(encode_labels(processor, [t for pair in pairs for t in pair.texts("de")], "", 64), IGNORED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        states, mask_of_all = model.encode(normalise_pixels(torch.from_numpy(pixels)), ids, mask)
        model.nats(states, mask_of_all, labels).sum(1).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    assert measure_disambiguation(model, processor, pairs, "de", max_target_tokens=64) == 1.0
