"""The model outside of Python: torch.export and ONNX give the same logits, at other batch sizes and lengths too."""

from pathlib import Path

import pytest
import torch
from small_models import batch_for
from torch import Tensor

from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig

DYNAMIC = torch.export.Dim.DYNAMIC
SHAPES = {name: {0: DYNAMIC, 1: DYNAMIC} for name in ("input_ids", "attention_mask", "decoder_input_ids")}
SHAPES["pixel_values"] = {0: DYNAMIC}


def inputs_for(model: Polyglance, *, batch: int, source_tokens: int, target_tokens: int) -> dict[str, Tensor]:
    target = torch.randint(3, 13, (batch, target_tokens), generator=torch.Generator().manual_seed(1))
    return {**batch_for(model, batch=batch, source_tokens=source_tokens), "decoder_input_ids": target}


@pytest.fixture(scope="module", params=["bart", "gemma2"])
def exported(request) -> tuple[Polyglance, torch.export.ExportedProgram]:
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(decoder=request.param, width=32, layers=2, max_tokens=64).build(13)).eval()
    torch.nn.init.normal_(model.lm_head.weight)
    inputs = inputs_for(model, batch=3, source_tokens=6, target_tokens=7)
    return model, torch.export.export(model, (), inputs, dynamic_shapes=SHAPES, strict=False)


@torch.no_grad()
def test_an_exported_program_gives_the_logits_of_the_model(exported) -> None:
    model, program = exported
    others = inputs_for(model, batch=5, source_tokens=9, target_tokens=4)
    torch.testing.assert_close(program.module()(**others).logits, model(**others).logits, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # torch's exporter uses what torch deprecates
@torch.no_grad()
def test_onnxruntime_gives_the_logits_of_the_model(exported, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model, program = exported
    torch.onnx.export(program, dynamo=True).save(str(tmp_path / "model.onnx"))
    others = inputs_for(model, batch=5, source_tokens=9, target_tokens=4)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    logits = session.run(None, {name: values.numpy() for name, values in others.items()})[0]
    torch.testing.assert_close(torch.from_numpy(logits), model(**others).logits, rtol=0, atol=1e-4)
