"""transformers' Trainer, Seq2SeqTrainer and peft on this model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import assembled_folder, batch_for
from torch import Tensor

from polyglance.config import to_dict
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor

pytest.importorskip("accelerate", reason="Trainer needs accelerate (pip install accelerate)")
# Warnings of accelerate and of Trainer about other versions of each other.
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


def small_model(decoder: Any) -> Polyglance:
    """A model without dropout, its gates open."""
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(decoder=decoder, width=32, max_tokens=64).build(13)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(parameter, 0.7)
    return model


def samples(model: Any, number: int = 8) -> list[dict[str, Tensor]]:
    """Samples whose targets differ in length, so that a mean of means is not the mean."""
    batch = batch_for(model, batch=number)
    labels = torch.randint(3, 13, (number, 6), generator=torch.Generator().manual_seed(1))
    for row in range(number):
        labels[row, 1 + row % 6 :] = -100
    return [{**{name: values[row] for name, values in batch.items()}, "labels": labels[row]} for row in range(number)]


def train(
    model: Any, folder: Path, *, trainer: str = "Trainer", collator: Any = None, processor: Any = None, **options: Any
) -> Any:
    import transformers

    arguments = getattr(transformers, "Seq2SeqTrainingArguments" if "Seq2Seq" in trainer else "TrainingArguments")(
        output_dir=str(folder),
        max_steps=2,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1,
        seed=0,
        **{"save_strategy": "no", **options},
    )
    made = getattr(transformers, trainer)(
        model=model,
        args=arguments,
        train_dataset=samples(model),
        eval_dataset=samples(model),
        data_collator=collator,
        processing_class=processor,
    )
    made.train()
    return made


def stack(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_accumulation_changes_nothing(decoder: str, tmp_path: Path) -> None:
    """One batch of 8, 2 of 4 and 4 of 2 give the same weights (they differed by 0.1, and the losses were k-fold)."""
    weights, losses = [], []
    for passes in (1, 2, 4):
        model = small_model(decoder)
        options = {"gradient_accumulation_steps": passes, "per_device_train_batch_size": 8 // passes}
        trainer = train(model, tmp_path, **options)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    before = torch.cat([p.detach().flatten() for p in small_model(decoder).parameters()])
    assert float((weights[0] - before).abs().max()) > 1e-2, "or equality would show nothing"
    for others, their_losses in zip(weights[1:], losses[1:], strict=True):
        assert float((others - weights[0]).abs().max()) <= 1e-6
        assert their_losses == pytest.approx(losses[0], rel=1e-4)


def test_label_smoothing(tmp_path: Path) -> None:
    """With decoder_input_ids it works; without them one line says what is missing."""
    model = small_model("gemma2")
    with pytest.raises(ValueError, match="prepare_decoder_input_ids_from_labels"):
        train(model, tmp_path, label_smoothing_factor=0.1)

    def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = stack(rows)
        return {**batch, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch["labels"])}

    batch = collate(samples(model))
    with torch.no_grad():
        log_probs = model(**batch, return_logits=True).logits.log_softmax(-1)
    kept = batch["labels"] != -100
    nll = -log_probs.gather(-1, batch["labels"].clamp(min=0)[..., None])[..., 0][kept].mean()
    expected = 0.9 * nll - 0.1 * log_probs[kept].mean()
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "label_smoothing_factor": 0.1}
    trainer = train(model, tmp_path, collator=collate, **options)
    first = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    assert first == pytest.approx(float(expected), abs=1e-4)


def test_a_checkpoint_of_trainer_is_a_whole_model(sources: tuple[Path, Path], tmp_path: Path) -> None:
    model = small_model("bart")
    processor = Processor.from_pretrained(assembled_folder(sources, tmp_path / "model"))
    train(model, tmp_path / "run", processor=processor, save_strategy="steps", save_steps=2)
    checkpoint = tmp_path / "run" / "checkpoint-2"
    assert to_dict(Processor.from_pretrained(checkpoint).config) == to_dict(processor.config)
    saved = Polyglance.from_pretrained(checkpoint).state_dict()
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(saved[name], values) for name, values in model.state_dict().items())


def test_training_computes_no_logits(tmp_path: Path) -> None:
    model = small_model("bart")
    batch = torch.utils.data.default_collate(samples(model))
    with_logits, without = model(**batch), model.train()(**batch)
    assert without.logits is None
    assert model(**batch, return_logits=True).logits is not None
    torch.testing.assert_close(without.loss, with_logits.loss, rtol=0, atol=1e-6)


def test_seq2seq_trainer_generates_and_evaluates(tmp_path: Path) -> None:
    model = small_model("bart")
    options = {"predict_with_generate": True, "generation_max_length": 9, "per_device_eval_batch_size": 3}
    trainer = train(model, tmp_path, trainer="Seq2SeqTrainer", per_device_train_batch_size=8, **options)
    predicted = trainer.predict(samples(model))
    model.eval()
    alone = model.generate(**{k: v for k, v in stack(samples(model)).items() if k != "labels"}, max_length=9)
    assert torch.equal(torch.tensor(predicted.predictions)[:, : alone.shape[1]], alone)
    nats = model(**stack(samples(model))).loss
    assert predicted.metrics["test_loss"] == pytest.approx(float(nats), rel=0.2)  # a mean of batches' means


@pytest.mark.parametrize("kind", ["SEQ_2_SEQ_LM", None])
def test_lora(kind: str | None, tmp_path: Path) -> None:
    """An adapter is trained alone, is not scaled by accumulation either, and comes back from its folder."""
    peft = pytest.importorskip("peft", reason="adapters need peft (pip install peft)")
    weights = []
    for passes in (1, 4):
        torch.manual_seed(0)
        config = peft.LoraConfig(task_type=kind, r=4, target_modules=["q_proj", "v_proj"], init_lora_weights="gaussian")
        model = peft.get_peft_model(small_model("gemma2"), config)
        options = {"gradient_accumulation_steps": passes, "per_device_train_batch_size": 8 // passes}
        train(model, tmp_path / str(passes), **options)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]))
    assert float((weights[1] - weights[0]).abs().max()) <= 1e-6
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(small_model("gemma2"), tmp_path / "adapter").eval()
    batch = stack(samples(model))
    with torch.no_grad():
        tuned = model.eval()(**batch).loss
        assert torch.equal(loaded(**batch).loss, tuned)
        assert not torch.equal(small_model("gemma2")(**batch).loss, tuned)
    ids = {name: values for name, values in batch.items() if name != "labels"}
    assert torch.equal(loaded.generate(**ids, max_new_tokens=4), model.generate(**ids, max_new_tokens=4))
