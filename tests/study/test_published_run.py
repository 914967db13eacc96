"""A study of models that start from checkpoints with two tokenizers; each run is trained by two processes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyglance.config import load
from polyglance.mixture.tokenizer import EOS, load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.run_records import read_runs
from polyglance.study import StudyConfig, plan_study, read_study_status, run_study
from polyglance.study.grid.job_configs import make_run_config
from polyglance.study.grid.jobs import list_runs
from tests.train.runs import write_tokenizer

STUDY = """
out = "{folder}/out"
image_size = 32
[data]
path = "{world}"
[coverage]
caption = ["en"]
translation = ["fr", "zh"]
[mixture]
batch_size = 16
[[families]]
name = "tiny"
sizes = ["{folder}/model"]
checkpoint = "{{size}}"
samples = [32]
optim = {{ lr = 1e-3, warmup_steps = 1 }}
[engine]
device = "cpu"
micro_batch_size = 4
[machine]
name = "2 processes"
devices = 2
peak_tflops = 0.01
[evaluation]
samples_per_cell = 8
captions_per_cell = 4
max_new_tokens = 8
[laws]
bootstrap = 0
"""


@pytest.fixture
def config(world: Path, tmp_path: Path) -> StudyConfig:
    return load(StudyConfig, write_published_study(world, tmp_path))


def write_published_study(world: Path, folder: Path) -> Path:
    """Write a study of one run, with the model that it starts from, into `folder`; it goes to `folder`/out."""
    tokenizer = load_tokenizer(write_tokenizer(world, folder))
    sizes = MicroConfig(width=16).build(tokenizer.get_vocab_size())
    sizes.decoder_start_token_id = EOS  # as published: <eos>, then <bos>, which is the first label
    torch.manual_seed(0)
    Polyglance(sizes).save_pretrained(folder / "model")
    Processor.for_model(sizes, tokenizer, load_tokenizer(folder / "tokenizer.json")).save(folder / "model")
    path = folder / "study.toml"
    path.write_text(STUDY.format(folder=folder, world=world))
    return path


@pytest.mark.slow
def test_a_published_size_from_checkpoint_to_table(config: StudyConfig) -> None:
    plan = plan_study(config)
    assert plan.machine.startswith("2 processes")
    run_study(config)
    assert set(read_study_status(config).jobs.values()) == {"done"}
    (row,) = read_runs(config.out / "runs.csv")
    assert (row.size, row.S) == ("model", 32)
    assert pytest.approx(plan.runs[0].compute_gmac) == row.C
    assert row.SC != row.T
    assert (config.out / "report" / "index.html").exists()


def test_checkpoints_can_be_written_in_the_background(config: StudyConfig) -> None:
    (job,) = list_runs(config)
    assert make_run_config(config, job, config.out).save_in_background is None
    background = replace(config, save_in_background=True)
    assert make_run_config(background, job, config.out).save_in_background is True
    assert list_runs(background)[0].fingerprint == job.fingerprint  # what is written is the same


def test_a_missing_checkpoint_is_one_line(config: StudyConfig, tmp_path: Path) -> None:
    overrides = ["families.0.checkpoint='nowhere/{size}'", "machine.devices=1"]
    with pytest.raises(ValueError, match=r"nowhere.*no model there") as caught:
        run_study(load(StudyConfig, tmp_path / "study.toml", overrides=overrides))
    assert "\n" not in str(caught.value)
