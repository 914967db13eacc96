"""Micro models on a card that several runs share: planned from named assumptions, refused where there is none."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from polyglance.config import load
from polyglance.study import StudyConfig, plan_study, run_study
from polyglance.study.grid.job_configs import make_train_config
from polyglance.study.grid.jobs import list_jobs
from tests.study.tiny import write_tiny_study

EXAMPLE = Path(__file__).parents[2] / "examples" / "gpu.toml"
SMALL = "data.world.num_train_images=100"


def test_the_example_is_planned_in_less_than_twenty_minutes(tmp_path: Path) -> None:
    config = load(StudyConfig, EXAMPLE, overrides=[f"out={tmp_path / 'out'}", SMALL])
    plan = plan_study(config, workers=8)
    assert plan.seconds < 20 * 60
    assert plan.machine == "one H100, 8 runs side by side"
    assert plan.rates["micro models"].startswith("assumed, not measured: 30 ms of the host for a step, or 5% of 989")
    sizes = {run.num_parameters for run in plan.runs}
    assert 1e6 < min(sizes) < 2e6
    assert 40e6 < max(sizes) < 50e6
    assert plan.memory_bytes < 80e9
    slower = load(StudyConfig, EXAMPLE, overrides=[f"out={tmp_path / 'out'}", SMALL, "machine.mfu=0.01"])
    assert plan_study(slower, workers=8).seconds > plan.seconds
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_made(tmp_path: Path) -> None:
    config = load(StudyConfig, EXAMPLE, overrides=[f"out={tmp_path / 'out'}"])
    with pytest.raises(ValueError, match="has no GPU"):
        run_study(config)
    assert not (tmp_path / "out").exists()


def test_runs_and_towers_compute_on_the_card_and_other_micro_studies_on_a_core(tmp_path: Path) -> None:
    on_card = load(StudyConfig, EXAMPLE)
    jobs = {job.kind: job for job in list_jobs(on_card)}
    engines = [make_train_config(on_card, jobs[kind]).engine for kind in ("tower", "trunk", "run")]
    assert {(e.device, e.strategy, e.precision, e.compile) for e in engines} == {("cuda", "single", "bf16", False)}
    on_core = load(StudyConfig, write_tiny_study(tmp_path))
    run = list_jobs(on_core)[-1]
    assert make_train_config(on_core, run).engine.device == "cpu"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.device=cpu"], "engine has no effect on micro models unless engine.device is 'cuda'"),
        (["engine.strategy=ddp"], "micro runs share one card"),
        (["machine.devices=8"], "micro runs share one card: machine.devices must be 1"),
    ],
)
def test_what_has_no_effect_is_refused(overrides: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load(StudyConfig, EXAMPLE, overrides=overrides)
