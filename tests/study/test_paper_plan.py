"""The published grid, planned: P, P_t, F and C of its runs (official code section 4.2).

One size of each kind of decoder is counted here; tests/model/test_sizes.py counts all four.
"""

import json
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load
from polyglance.study import StudyConfig, plan_study
from polyglance.study.grid.jobs import list_runs

PAPER = Path(__file__).parents[2] / "examples" / "paper.toml"
TWO_SIZES = ("families.0.sizes=['0.4b']", "families.1.sizes=['3.5b']")
PUBLISHED = {  # P, P_t as really trained, F in GMAC, C at 10,240,000 samples in GMAC
    "0.4b": (428_838_400, 337_631_232, 62.06, 1.136e9),
    "3.5b": (3_485_001_498, 1_097_649_690, 488.81, 6.582e9),
}
SAMPLES = (512_000, 2_048_000, 5_120_000, 10_240_000)


def test_the_published_grid(tmp_path: Path) -> None:
    grid = {(job.size, job.samples) for job in list_runs(load(StudyConfig, PAPER))}
    assert grid == {(size, samples) for size in ("0.4b", "1.0b", "3.5b", "11.2b") for samples in SAMPLES}
    plan = plan_study(load(StudyConfig, PAPER, overrides=[f"out={tmp_path}", *TWO_SIZES]))
    assert [run.samples for run in plan.runs] == [*SAMPLES, *SAMPLES]
    for run in plan.runs:
        num_parameters, num_trained, gmac, compute = PUBLISHED[run.id.split("-")[1]]
        assert (run.num_parameters, run.num_trained) == (num_parameters, num_trained)
        assert run.macs_per_sample / 1e9 == pytest.approx(gmac, rel=1e-3)
        assert run.compute_gmac == pytest.approx(compute * run.samples / 10_240_000, rel=1e-3)


def test_hours_follow_from_peak_and_mfu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def hours(*settings: str) -> list[float]:
        overrides = [word for setting in (f"out={tmp_path}", *settings) for word in ("--set", setting)]
        main(["study", "plan", str(PAPER), "--json", *overrides])
        return [run["seconds"] / 3600 for run in json.loads(capsys.readouterr().out)["runs"]]

    one_device = ("machine.devices=1", "mixture.batch_size=64")  # messages between devices cost nothing
    usual, half = (hours(*TWO_SIZES, *one_device, f"machine.mfu={mfu}") for mfu in (0.35, 0.175))
    assert half == pytest.approx([2 * value for value in usual])
    # 0.4B: the frozen tower is passed once, 20.9 GMAC; the other 41.1 GMAC again for the gradients of activations and
    # of weights each; 2 FLOP a MAC.
    expected_s = 10_240_000 * 2 * (20.93 + 3 * 41.08) * 1e9 / (989e12 * 0.35)
    assert usual[len(SAMPLES) - 1] == pytest.approx(expected_s / 3600, rel=1e-3)


def test_the_plan_shows_money_in_100_columns_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["study", "plan", str(PAPER), "--set", f"out={tmp_path / 'paper'}", "--set", "machine.currency='EUR'"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("EUR" in line for line in lines)
    assert list(tmp_path.iterdir()) == []
    plan = plan_study(load(StudyConfig, PAPER, overrides=[f"out={tmp_path}", "machine.price_per_gpu_hour=2.0"]))
    assert plan.money == pytest.approx(plan.seconds / 3600 * 8 * 2.0)
    assert sum(run.money for run in plan.runs) == pytest.approx(plan.money)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("families.0.widths=[32]", "needs widths (or else sizes)"),
        ("families.0.checkpoint=''", "sizes and checkpoint"),
        ("families.0.checkpoint='initial/{siz}'", "{siz}, for which nothing is filled in; did you mean 'size'?"),
        ("families.0.checkpoint='initial/{Size}'", "{Size}, for which nothing is filled in; did you mean 'size'?"),
        ("families.0.checkpoint='initial/{ size }'", "{ size }, for which nothing is filled in; did you mean 'size'?"),
        ("families.0.checkpoint='initial/{size'", "expected braces as in {size}"),
        ("families.0.checkpoint='initial'", "for all of 2 sizes; put {size} into it"),
        ("families.0.sizes=['1.2b']", "unknown size '1.2b'; did you mean '11.2b'?"),
        ("machine.mfu=35", "mfu between 0 and 1"),
        ("machine.currency=''", "machine.currency is empty"),
        ("families.0.layers=7", "layers has no effect on sizes"),
        ("families.1.samples=[1]", "family 'gemma': 1 samples are less than one batch of 1024"),
    ],
)
def test_mistakes_are_one_line(setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "plan", str(PAPER), "--set", f"out={tmp_path}", "--set", setting])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
