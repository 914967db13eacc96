"""The model family under transformers' common model tests; benchmarks/transformers_common_tests.py runs it.

`tests` is here the folder `tests` of the installed version of transformers.
"""

import copy
import unittest
from typing import Any

import torch
from small_models import IDS, tiny_bart, tiny_gemma, tiny_vision
from tests.generation.test_utils import GenerationTesterMixin
from tests.test_modeling_common import ModelTesterMixin

from polyglance.model import Polyglance, PolyglanceConfig

Polyglance._can_compile_fullgraph = True  # the library runs its tests of static caches and compiled steps for such
# classes only. The class itself leaves it off: on a GPU, `generate` would compile static caches without being asked.
WIDTH = 32
"""Width of encoder and decoder: the common tests give both the embeddings of one table."""


class Inputs:
    """Configuration and inputs of one decoder, by the names that the common tests read."""

    is_training = True
    batch_size = 3
    seq_length = 5
    image_size = 32
    hidden_size = WIDTH
    num_hidden_layers = 2
    num_attention_heads = 4

    def __init__(self, decoder: str, *, attention: str | None) -> None:
        self.decoder = decoder
        self.attention = attention
        self.decoder_seq_length = self.seq_length
        self.encoder_seq_length = self.get_config().num_image_tokens(self.image_size) + self.seq_length

    def get_config(self) -> PolyglanceConfig:
        sizes = {"hidden_size": WIDTH, "num_hidden_layers": self.num_hidden_layers}
        gemma = tiny_gemma(cross_attention_hidden_size=WIDTH, cross_attention_every=1, **sizes)
        # The common tests resize the decoder's table and then ask for its new ids in the encoder too.
        encoder = tiny_bart(vocab_size=200, pad_token_id=1, bos_token_id=0, eos_token_id=2)
        decoder = gemma if self.decoder == "gemma2" else tiny_bart(vocab_size=160, **IDS)
        return PolyglanceConfig(tiny_vision(), encoder, decoder, attn_implementation=self.attention)

    def make_ids(self, batch_size: int) -> torch.Tensor:
        return torch.randint(3, 90, (batch_size, self.seq_length), generator=torch.Generator().manual_seed(0))

    def prepare_config_and_inputs_for_common(self) -> tuple[PolyglanceConfig, dict[str, torch.Tensor]]:
        side = self.image_size
        pixels = torch.randn(self.batch_size, 3, side, side, generator=torch.Generator().manual_seed(0))
        return self.get_config(), {
            "pixel_values": pixels,
            "input_ids": self.make_ids(self.batch_size),
            "attention_mask": torch.ones(self.batch_size, self.seq_length, dtype=torch.long),
            "decoder_input_ids": self.make_ids(self.batch_size),
            "decoder_attention_mask": torch.ones(self.batch_size, self.seq_length, dtype=torch.long),
        }


class Family(ModelTesterMixin, GenerationTesterMixin):
    """What the tests of both decoders have in common."""

    all_model_classes = (Polyglance,)
    is_encoder_decoder = True
    _is_composite = True
    decoder: str
    needs_weights = ("test_model_outputs_equivalence", "test_capture_outputs_decorator")
    """Tests that ask for attention weights with the default attention, which this family refuses by name: they get
    the attention that computes weights."""

    def setUp(self) -> None:
        asks_for_weights = self.id().rpartition(".")[2] in self.needs_weights
        self.model_tester = Inputs(self.decoder, attention="eager" if asks_for_weights else None)

    def _prepare_for_class(
        self, inputs_dict: dict[str, Any], model_class: type, return_labels: bool = False
    ) -> dict[str, Any]:
        """Add what this family needs beside the pixels, where a common test gives nothing else: a prompt, and labels
        (the library knows which classes of its own have them)."""
        inputs = copy.deepcopy(inputs_dict)
        if "input_ids" not in inputs and "inputs_embeds" not in inputs and "pixel_values" in inputs:
            inputs["input_ids"] = self.model_tester.make_ids(len(inputs["pixel_values"]))
        if return_labels:
            inputs["labels"] = self.model_tester.make_ids(self.model_tester.batch_size)
        return inputs


class BartDecoderTest(Family, unittest.TestCase):
    decoder = "bart"


class Gemma2DecoderTest(Family, unittest.TestCase):
    decoder = "gemma2"
