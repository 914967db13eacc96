"""The published grid, planned: P, P_t, F and C of all sixteen runs (official code section 4.2)."""

import json
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load
from polyglance.study import StudyConfig, plan_study

EXAMPLES = Path(__file__).parents[2] / "examples"

PUBLISHED = {  # P, P_t as really trained, F in GMAC, C at 10,240,000 samples in GMAC
    "0.4b": (428_838_400, 337_631_232, 62.06, 1.136e9),
    "1.0b": (1_039_697_920, 676_864_000, 170.62, 2.885e9),
    "3.5b": (3_485_001_498, 1_097_649_690, 488.81, 6.582e9),
    "11.2b": (11_221_849_642, 2_534_813_738, 1494.45, 1.876e10),
}


def test_the_published_grid(tmp_path: Path) -> None:
    plan = plan_study(load(StudyConfig, EXAMPLES / "paper.toml", overrides=[f"out={tmp_path}"]))
    assert len(plan.runs) == 16
    for run in plan.runs:
        num_parameters, num_trained, gmac, compute = PUBLISHED[run.id.split("-")[1]]
        assert (run.num_parameters, run.num_trained) == (num_parameters, num_trained)
        assert run.macs_per_sample / 1e9 == pytest.approx(gmac, rel=1e-3)
        assert run.compute_gmac == pytest.approx(compute * run.samples / 10_240_000, rel=1e-3)
    assert {run.samples for run in plan.runs} == {512_000, 2_048_000, 5_120_000, 10_240_000}


def test_hours_follow_from_peak_and_mfu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def hours(*settings: str) -> list[float]:
        overrides = [word for setting in (f"out={tmp_path}", *settings) for word in ("--set", setting)]
        main(["study", "plan", str(EXAMPLES / "paper.toml"), "--json", *overrides])
        return [run["seconds"] / 3600 for run in json.loads(capsys.readouterr().out)["runs"]]

    usual, half = hours(), hours("machine.mfu=0.175")
    assert half == pytest.approx([2 * value for value in usual])
    # 11.2B: forward 1,494 GMAC, backward about as much for activations and a fifth for weights; 2 FLOP a MAC.
    expected_s = 10_240_000 * 2 * (1494.45 * 2.18) * 1e9 / (8 * 989e12 * 0.35)
    assert usual[-1] == pytest.approx(expected_s / 3600, rel=0.01)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("families.0.widths=[32]", "needs widths (or else sizes)"),
        ("families.0.checkpoint=''", "sizes and checkpoint"),
        ("families.0.sizes=['1.2b']", "unknown size '1.2b'; did you mean '11.2b'?"),
        ("machine.mfu=35", "mfu between 0 and 1"),
    ],
)
def test_mistakes_are_one_line(setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "plan", str(EXAMPLES / "paper.toml"), "--set", f"out={tmp_path}", "--set", setting])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
