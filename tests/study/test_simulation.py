"""A study simulated on a cluster: conservation of time, bounds, known expectations, and mistakes in one line."""

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.cli import main
from polyglance.study.planning.simulation import SimulatedJob, Simulation, count_places, run_simulation
from tests.study.progress_study import write_config

PAPER = Path(__file__).parents[2] / "examples" / "paper.toml"
ONE_SIZE = ("families.0.sizes=['0.4b']", "families.1.sizes=['3.5b']")


def job(name: str = "a", num_steps: int = 100, **details: Any) -> SimulatedJob:
    return SimulatedJob(id=name, num_steps=num_steps, **{"step_s": 2.0, "save_every": 10, **details})


@st.composite
def graphs(draw: st.DrawFn) -> list[SimulatedJob]:
    """Up to eight jobs, each of which may need some of those before it."""
    jobs: list[SimulatedJob] = []
    for number in range(draw(st.integers(1, 8))):
        needs = frozenset(draw(st.sets(st.sampled_from([one.id for one in jobs]), max_size=2))) if jobs else frozenset()
        jobs.append(
            SimulatedJob(
                id=f"j{number}",
                needs=needs,
                num_steps=draw(st.integers(1, 60)),
                step_s=draw(st.floats(0.1, 5)),
                bytes_per_step=draw(st.floats(0, 100)),
                save_every=draw(st.integers(1, 30)),
                save_s=draw(st.floats(0, 3)),
                start_s=draw(st.floats(0, 5)),
                priority=draw(st.floats(0, 100)),
            )
        )
    return jobs


@settings(max_examples=60)
@given(graphs(), st.integers(1, 4), st.floats(5, 500), st.sampled_from((0.0, 0.002, 0.02)), st.floats(0, 60))
def test_time_is_conserved(
    jobs: list[SimulatedJob], places: int, store: float, preemptions_per_s: float, away_s: float
) -> None:
    options: dict[str, Any] = {"places": places, "store_bytes_per_s": store, "away_s": away_s, "seed": (1, 2)}
    done = run_simulation(jobs, preemptions_per_s=preemptions_per_s, **options)
    assert done.held_s == pytest.approx(done.work_s + done.lost_s + done.save_s + done.start_s)
    assert done.held_s + done.away_s <= places * done.wall_s * (1 + 1e-9)
    full_speed_s = sum(one.num_steps * one.step_s for one in jobs)
    assert full_speed_s <= done.work_s * (1 + 1e-9)
    assert done.work_s + done.lost_s >= full_speed_s + done.store_wait_s - 1e-6
    assert max(done.end_s.values()) == done.wall_s
    assert done.end_s.keys() == done.first_start_s.keys() == {one.id for one in jobs}
    for one in jobs:
        assert all(done.end_s[need] <= done.first_start_s[one.id] for need in one.needs)
        least_s = one.start_s + one.num_steps * one.step_s + one.save_s * math.ceil(one.num_steps / one.save_every)
        assert done.end_s[one.id] - done.first_start_s[one.id] >= least_s * (1 - 1e-9)
    if preemptions_per_s == 0:
        assert (done.lost_s, done.away_s, done.num_preemptions) == (0, 0, 0)
        assert done.work_s == pytest.approx(full_speed_s + done.store_wait_s)
    assert run_simulation(jobs, preemptions_per_s=preemptions_per_s, **options) == done  # the same again


def test_one_run_takes_what_it_is_made_of() -> None:
    done = run_simulation([job(num_steps=25, save_s=3.0, start_s=7.0)], places=1)
    assert done.wall_s == 7 + 25 * 2 + 3 * 3  # checkpoints after 10, 20 and 25 steps
    assert (done.work_s, done.save_s, done.start_s, done.lost_s) == (50, 9, 7, 0)


def test_runs_wait_for_places_the_most_urgent_first() -> None:
    jobs = [job(name, 10, priority=priority) for name, priority in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    done = run_simulation(jobs, places=1)
    assert done.first_start_s == {"b": 0, "c": 20, "a": 40}
    assert run_simulation(jobs, places=2).wall_s == 40
    assert run_simulation(jobs, places=9).wall_s == 20
    needing = [jobs[0], job("d", 10, needs=frozenset("a"), priority=9.0)]
    assert run_simulation(needing, places=2).first_start_s == {"a": 0, "d": 20}


def test_the_store_is_shared_evenly() -> None:
    two = [job("a", 10, bytes_per_step=20.0), job("b", 10, bytes_per_step=20.0)]  # 10 bytes/s each
    assert run_simulation(two, places=2, store_bytes_per_s=20.0).wall_s == 20
    done = run_simulation(two, places=2, store_bytes_per_s=10.0)
    assert (done.wall_s, done.store_wait_s) == pytest.approx((40, 40))
    # One that asks for 1 byte/s is not slowed; the others share 9 bytes/s, and when it is over, 10.
    three = [job("c", 10, bytes_per_step=2.0), *two]
    done = run_simulation(three, places=3, store_bytes_per_s=10.0)
    assert done.end_s["c"] == pytest.approx(20)
    assert done.end_s["a"] == pytest.approx(20 + (10 - 20 * 4.5 / 20) * 20 / 5)


def test_preemptions_cost_what_theory_says() -> None:
    """A piece of length t between checkpoints takes (e^(rt) - 1) / r on average, if it begins anew at once."""
    rate, piece_s = 0.03, 20.0
    results = [
        run_simulation([job(num_steps=50)], places=1, preemptions_per_s=rate, seed=(trial,)) for trial in range(600)
    ]
    assert fmean(one.wall_s for one in results) == pytest.approx(5 * (math.exp(rate * piece_s) - 1) / rate, rel=0.03)
    assert fmean(one.num_preemptions for one in results) == pytest.approx(5 * (math.exp(rate * piece_s) - 1), rel=0.05)


def test_more_preemptions_are_never_cheaper_on_average() -> None:
    jobs = [job(f"j{number}", 40 + 10 * number, start_s=5.0, save_s=1.0, priority=number) for number in range(6)]

    def average(rate: float) -> Simulation:
        made = [
            run_simulation(jobs, places=3, preemptions_per_s=rate, away_s=10.0, seed=(trial,)) for trial in range(150)
        ]
        return Simulation(
            first_start_s={},
            end_s={},
            num_preemptions=0,
            **{f"{name}_s": fmean(getattr(one, f"{name}_s") for one in made) for name in SUMS},
        )

    averages = [average(rate) for rate in (0.0, 0.001, 0.003, 0.01, 0.03)]
    assert [one.held_s for one in averages] == sorted(one.held_s for one in averages)
    assert [one.wall_s for one in averages] == sorted(one.wall_s for one in averages)
    assert [one.lost_s for one in averages] == sorted(one.lost_s for one in averages)
    assert {one.work_s for one in averages} == {averages[0].work_s}


SUMS = ("wall", "work", "lost", "save", "start", "held", "away", "store_wait")


def test_places_for_runs() -> None:
    assert [count_places(*sizes) for sizes in ((512, 8, 8), (512, 1, 8), (12, 8, 8), (12, 4, 8), (15, 3, 8))] == [
        *(64, 512, 1, 3, 4)
    ]
    assert [count_places(*sizes) for sizes in ((512, 16, 8), (512, 12, 8), (7, 8, 8), (8, 16, 8))] == [32, 32, 0, 0]


def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    overrides = [word for setting in (f"out={tmp_path}", *ONE_SIZE) for word in ("--set", setting)]
    main(["study", "plan", str(PAPER), "--json", *overrides, *options])
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_one_run_on_one_gpu_is_the_plan_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = ("machine.devices=1", "mixture.batch_size=64", "families.0.samples=[512_000]", "families.1.samples=[64]")
    settings_ = [word for setting in alone for word in ("--set", setting)]
    made = plan(tmp_path, capsys, *settings_, "--cluster", "1xH100", "--start-minutes", "0", "--store-gb-s", "1e9")
    cluster = made["cluster"]
    assert cluster["work_gpu_hours"] * 3600 == pytest.approx(made["seconds"], rel=1e-9)
    assert cluster["wall_hours"] == pytest.approx(
        made["seconds"] / 3600 + cluster["checkpoint_gpu_hours"] + cluster["start_gpu_hours"], rel=1e-9
    )
    assert cluster["lost_gpu_hours"] == 0
    assert cluster["money"] == pytest.approx(cluster["gpu_hours"] * 2.5)
    assert plan(tmp_path, capsys)["cluster"] is None


def test_the_published_grid_and_one_ten_times_as_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(tmp_path, capsys, "--cluster", "512xh100")
    small = made["cluster"]
    assert small["places"] == 64
    assert small["work_gpu_hours"] * 3600 == pytest.approx(8 * made["seconds"])
    assert small["wall_hours"] >= max(run["seconds"] for run in made["runs"]) / 3600
    assert "the longest run: gemma-3.5b-s10240000" in small["limits"][0]
    ten = ("--set", f"seeds={list(range(10))}", "--preemption-rate", "0.1", "--trials", "5")
    large = plan(tmp_path, capsys, "--cluster", "64xH100", *ten)["cluster"]
    assert large["work_gpu_hours"] == pytest.approx(10 * small["work_gpu_hours"])
    assert large["gpu_hours"] == pytest.approx(
        sum(large[f"{name}_gpu_hours"] for name in ("work", "lost", "checkpoint", "start"))
    )
    assert large["gpu_hours"] > 10 * small["gpu_hours"]
    assert large["wall_hours"] >= large["work_gpu_hours"] / 64
    assert large["limits"][0] == "the number of GPUs: 80 runs on 8 places of 8"
    assert 0 < large["utilisation"] < 1
    starved = plan(tmp_path, capsys, "--cluster", "512xH100", "--images-per-core-s", "1")["cluster"]
    assert any(limit.startswith("decoding: 8 runs") for limit in starved["limits"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--cluster 0xH100", "--cluster '0xH100': has no GPU"),
        ("--cluster H100", "expected a number and a card, such as 512xH100"),
        ("--cluster -8xH100", "expected a number and a card"),
        ("--cluster 8xA100", "unknown GPU 'A100'; did you mean 'H100'?"),
        ("--cluster 7xH100", "a run needs 8 GPUs on nodes of 8"),
        ("--cluster 64xH100 --set machine.devices=128", "a run needs 128 GPUs"),
        ("--cluster 64xH100 --preemption-rate 100", "it never ends; lower --preemption-rate"),
        ("--cluster 64xH100 --preemption-rate -1", "--preemption-rate is -1; expected 0 or more"),
        ("--cluster 64xH100 --preemption-rate nan", "--preemption-rate is nan"),
        ("--cluster 64xH100 --store-gb-s 0", "--store-gb-s is 0; expected a positive number"),
        ("--cluster 64xH100 --trials 5", "--trials has no effect without --preemption-rate"),
        ("--preemption-rate 1", "--preemption-rate has no effect without --cluster"),
    ],
)
def test_mistakes_are_one_line(options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "plan", str(PAPER), "--set", f"out={tmp_path}", *options.split()])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_micro_studies_have_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "plan", str(write_config(tmp_path)), "--cluster", "8xH100"])
    assert "--cluster is for studies of published sizes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_workers_without_effect_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    micro = str(write_config(tmp_path))
    for command, message in (
        (["plan", str(PAPER), "--workers", "7"], "--workers has no effect on published sizes"),
        (["plan", str(PAPER), "--workers", "7", "--cluster", "8xH100"], "--workers has no effect on published sizes"),
        (["run", str(PAPER), "--workers", "7", "--dry-run"], "--workers has no effect on published sizes"),
        (["run", str(PAPER), "--workers", "7"], "--workers has no effect on published sizes"),
        (["run", micro, "--dry-run", "--on", "nowhere"], "--on has no effect with --dry-run"),
        (["run", micro, "--dry-run", "--on", "slurm"], "--on has no effect with --dry-run"),
        (["run", micro, "--workers", "0"], "--workers is 0; expected 1 or more"),
        (["plan", micro, "--workers", "0"], "--workers is 0; expected 1 or more"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["study", *command, "--set", f"out={tmp_path / 'out'}"])
        error = capsys.readouterr().err
        assert caught.value.code == 2, command
        assert message in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/data"))


def test_a_checkpoint_holds_what_is_trained_and_is_written_through_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A parameter and two moments in float32, each 100 steps and at the end; gemma-3.5b has 1,097,649,690 that are
    trained, florence-0.4b 337,631,232."""
    one = ["families.0.samples=[1024]", "families.1.samples=[1_024_000]", "seeds=[0,1]", "save_every_steps=100"]
    settings_ = [word for setting in one for word in ("--set", setting)]

    def checkpoint_s(*options: str) -> float:
        cluster = plan(tmp_path, capsys, *settings_, "--cluster", "16xH100", *options)["cluster"]
        return float(cluster["checkpoint_gpu_hours"]) * 3600 / 8

    alone_s = 2 * 12 * (10 * 1_097_649_690 + 337_631_232) / 5e9  # two runs, a link of 5 GB/s each
    assert checkpoint_s("--store-gb-s", "1000") == pytest.approx(alone_s)
    assert checkpoint_s("--store-gb-s", "5") > 1.5 * alone_s  # both write at the same time
    assert checkpoint_s("--set", "save_in_background=true") == 0


def test_checkpoints_share_the_store() -> None:
    two = [job(name, 10, save_s=3.0, save_bytes=30.0) for name in "ab"]
    assert run_simulation(two, places=2, store_bytes_per_s=20.0).wall_s == 23
    assert run_simulation(two, places=2, store_bytes_per_s=10.0).wall_s == 26


def test_the_longest_chain_is_named_by_its_first_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trunk and a run that branches off it: together as long as that run from the start."""
    trunk = ("--set", "families.1.schedule='trunk'", "--set", "families.1.optim.cooldown_share=0.2")
    warm = ("--set", "families.1.optim.warmup_steps=100")
    small = ("--set", "families.0.samples=[1024]")
    cluster = plan(tmp_path, capsys, "--cluster", "512xH100", *trunk, *warm, *small)["cluster"]
    (limit,) = [one for one in cluster["limits"] if "longest" in one]
    assert limit.startswith("the longest chain of jobs that need each other: trunk-gemma-3.5b-s")
    hours = float(limit.partition(" takes ")[2].partition(" hours")[0])
    assert hours == pytest.approx(max(cluster["end_hours"].values()), abs=1)
