"""Evaluations and captions by jobs of a cluster: the same as by one process, whatever is killed."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_evaluation
from tests.study.clusters import ENV, POLYGLANCE, RayNodes, wait_until

from polyglance.cli import main
from polyglance.engines import ModelConfig
from polyglance.evaluate.config import LossConfig, PredictConfig, ScoringConfig
from polyglance.evaluate.folder_loss import measure_folder
from polyglance.evaluate.prediction_set import INFO_NAME, PREDICTIONS_NAME
from polyglance.evaluate.run import evaluate_benchmark
from polyglance.model.caption_files import caption_files
from polyglance.model.caption_request import CaptionRequest
from polyglance.model.config import GenerateConfig
from polyglance.run_records import LossRecord
from polyglance.study import evaluation
from polyglance.study.evaluation_place import EvaluationPlace
from polyglance.study.grid.jobs import Job
from polyglance.study.needs import JobNeeds
from polyglance.study.work.attempt import Work, name_job, try_named_job
from polyglance.study.work.ending import EndedJob


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on-cluster")
    tiny_evaluation.tiny_model(folder / "model")
    tiny_evaluation.tiny_model(folder / "start", seed=1)
    tiny_evaluation.xm3600(folder / "root")
    return folder


def make_config(inputs: Path, out: Path, limit: int = 13) -> PredictConfig:
    model = ModelConfig(model=str(inputs / "model"), max_new_tokens=5, beams=2)
    place: dict[str, Any] = {"root": inputs / "root", "out": out, "benchmark": "xm3600", "task": "caption"}
    return PredictConfig(model=model, **place, language="", limit=limit, batch_size=2)


def contents(out: Path) -> dict[str, bytes]:
    """Predictions and scores, without the files of the jobs; npz files, and so lists of digests, differ by time."""
    return {
        str(path.relative_to(out)): path.read_bytes().replace(str(out).encode(), b"OUT")
        for path in sorted(out.rglob("*"))
        if path.name in (PREDICTIONS_NAME, INFO_NAME, "scores.json") or ".partial" in path.name
    }


class Cluster:
    """A cluster whose nodes are this process; the first try at `dying` is killed after one batch."""

    num_slots = 2
    dying = "shard-1"

    def __init__(self, work: Work, on: str, needs: JobNeeds, *, takes_gpu_if_there: bool) -> None:
        assert takes_gpu_if_there, "the device is auto"
        self.work, self.needs, self.running = work, needs, list[Job]()
        self.tries: list[str] = []

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, job: Job) -> None:
        self.running.append(job)

    def wait(self) -> list[EndedJob]:
        job = self.running.pop(0)
        dies = job.id == self.dying and job.id not in self.tries
        self.tries.append(job.id)
        report = try_named_job(name_job(self.work, job), lambda: dies)
        if not dies:
            return [EndedJob.of(job, report)]
        assert (report["ending"], report["step"]) == ("stopped", 1), report
        for path in self.work.out.parent.glob("*/*.partial-1"):
            with path.open("ab") as file:
                file.write(path.read_bytes()[:20])  # a kill in the middle of a line
        return [EndedJob(job=job, ending="died", problem="killed")]

    def cancel_waiting(self) -> int:
        return 0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[Cluster]:
    opened: list[Cluster] = []

    def open_cluster(*args: Any, **options: Any) -> Cluster:
        opened.append(Cluster(*args, **options))
        return opened[-1]

    monkeypatch.setattr(evaluation, "open_cluster", open_cluster)
    return opened


def test_shards_make_what_one_process_makes_also_after_a_kill(
    inputs: Path, tmp_path: Path, cluster: list[Cluster], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = evaluate_benchmark(make_config(inputs, tmp_path / "alone"), ["fr", "zh"], ScoringConfig())
    place = EvaluationPlace(on="ray", shards=3)
    made = evaluation.evaluate_on_cluster(make_config(inputs, tmp_path / "many"), ["fr", "zh"], ScoringConfig(), place)
    assert [replace(one, folder="") for one in made] == [replace(one, folder="") for one in alone]
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")
    assert len(contents(tmp_path / "many")) == 6
    assert cluster[0].tries == ["description", "shard-0", "shard-1", "shard-2", "shard-1"]
    said = capsys.readouterr().err
    assert "killed; it goes on from its last checkpoint (retry 1 of 2)" in said
    assert "xm3600: 26/26" in said
    assert "device auto: each job asks for 1 CPUs\n" in said
    # What is done is not made again.
    again = evaluation.evaluate_on_cluster(make_config(inputs, tmp_path / "many"), ["fr", "zh"], ScoringConfig(), place)
    assert (again, cluster[1].tries) == (made, ["description"])


def make_request(inputs: Path) -> CaptionRequest:
    decoding = GenerateConfig(beams=2, max_new_tokens=5, batch_size=1)
    return CaptionRequest(model=inputs / "model", languages=("fr", "zh"), config=decoding)


def test_captions_of_files_by_shards_are_those_of_one_process_also_after_a_kill(
    inputs: Path,
    tmp_path: Path,
    cluster: list[Cluster],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One file is named twice, and one is no image. When a file is another one, all are captioned again."""
    tiny_evaluation.images(tmp_path / "images", [f"{number}.png" for number in range(9)])
    (tmp_path / "images" / "9.png").write_bytes(b"no image")
    names = [str(tmp_path / "images" / f"{number}.png") for number in (0, 1, 2, 3, 9, 4, 5, 6, 7, 8, 1)]
    request, place = make_request(inputs), EvaluationPlace(on="ray", shards=2)

    def caption() -> Any:
        return evaluation.caption_on_cluster(names, request, tmp_path / "out", place)

    alone = list(caption_files(names, request))
    assert len({one.text for one in alone}) > 6, "or a mix-up would not show"
    monkeypatch.setattr(Cluster, "dying", "shard-0")
    assert caption() == alone
    assert cluster[0].tries == ["description", "shard-0", "shard-1", "shard-0"]
    said = capsys.readouterr().err
    assert "killed; it goes on from its last checkpoint (retry 1 of 2)" in said
    assert "images: 10/10" in said
    assert caption() == alone
    assert cluster[1].tries == ["description"]

    (tmp_path / "images" / "8.png").replace(names[4])
    changed = caption()
    assert changed == list(caption_files(names, request))
    assert changed[8:10] != alone[8:10]
    assert cluster[2].tries[1:] == ["shard-0", "shard-1", "shard-0"]


def test_losses_by_shards_are_those_of_one_process_to_the_bit_also_after_a_kill(
    inputs: Path, world: Path, tmp_path: Path, cluster: list[Cluster], capsys: pytest.CaptureFixture[str]
) -> None:
    config = LossConfig(
        model=inputs / "model",
        initial=inputs / "start",
        data=world / "test",
        captioned=("en",),
        translated=("fr", "zh"),
        samples_per_cell=7,
        batch_size=2,
    )
    alone = measure_folder(config, tmp_path / "alone.json")
    out, place = tmp_path / "many.json", EvaluationPlace(on="ray", shards=3)
    assert evaluation.measure_on_cluster(config, out, place) == alone
    assert out.read_bytes() == (tmp_path / "alone.json").read_bytes()
    assert LossRecord.read(out) == alone
    assert cluster[0].tries == ["description", "shard-0", "shard-1", "shard-2", "shard-1"]
    assert "batches: 28/28" in capsys.readouterr().err  # 4 of each of 5 cells, and of UC's two before training
    out.unlink()
    assert evaluation.measure_on_cluster(config, out, place) == alone
    assert cluster[1].tries == ["description"]


def test_a_model_that_changes_between_the_jobs_is_refused(
    inputs: Path, tmp_path: Path, cluster: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = evaluation.read_description

    def describe(work: Any) -> Any:
        described = read(work)
        path = work.out / "description.json"
        path.write_text(path.read_text().replace(next(iter(described.values())).fingerprint, "0" * 12))
        return described

    monkeypatch.setattr(evaluation, "read_description", describe)
    monkeypatch.setattr(Cluster, "dying", "")
    with pytest.raises(ValueError, match=r"is another on .* than on the machine of the first job"):
        evaluation.evaluate_on_cluster(
            make_config(inputs, tmp_path), ["fr"], ScoringConfig(), EvaluationPlace(on="ray", shards=2)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shards 2", "--shards has no effect without --on"),
        ("--partition gpu", "--partition has no effect without --on"),
        ("--on slurm --nodes 2", "--nodes has no effect on an evaluation, whose jobs have one node each"),
        ("--on slurm --shards 0", "shards is 0; expected at least 1"),
        ("--on slurm --processes 2", "--processes has no effect on a cluster: --shards is the number of its jobs"),
        ("--on moon", "--on is 'moon'; expected local, ray, ray://HOST:PORT or slurm"),
    ],
)
def test_a_mistake_is_one_line(
    options: str, message: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = f"--model {inputs / 'model'} --root {inputs / 'root'} --out {tmp_path}"
    verb = f"eval caption --benchmark xm3600 {places} {options}"
    with pytest.raises(SystemExit):
        main(verb.split())
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("caption a.png --out x", "--out has no effect without --on"),
        ("caption a.png --shards 2", "--shards has no effect without --on"),
        ("caption a.png --on slurm", "--on needs --out, a folder that all nodes see"),
        ("caption a.png --on slurm --out x --processes 2", "--processes has no effect on a cluster"),
        ("eval loss --data x --on ray", "--on needs --out, a file such as /shared/losses.json"),
        ("eval loss --data x --out {tmp}/y.json --on moon", "--on is 'moon'; expected local, ray, ray://HOST:PORT"),
    ],
)
def test_a_mistake_with_captions_or_losses_is_one_line(
    verb: str, message: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*verb.format(tmp=tmp_path).split(), "--model", str(inputs / "model")])
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_two_nodes_of_ray_make_what_one_process_makes_also_after_a_kill(
    inputs: Path, tmp_path: Path, ray_nodes: RayNodes
) -> None:
    out = tmp_path / "many"
    options = f"--model {inputs / 'model'} --root {inputs / 'root'} --out {out} --lang fr --limit 601 --batch-size 2"
    place = f"--max-new-tokens 5 --beams 2 --on {ray_nodes.address} --shards 3"
    command = [*POLYGLANCE, "eval", "caption", "--benchmark", "xm3600", *options.split(), *place.split(), "--json"]

    def kill() -> bool:
        parts = [path for path in out.glob("*/predictions.jsonl.partial-*") if path.stat().st_size]
        return any(ray_nodes.kill_worker(f"shard-{path.name.rpartition('-')[2]}") for path in parts)

    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        wait_until(kill, process)
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "it goes on from its last checkpoint (retry 1 of 2)" in said
    evaluate_benchmark(make_config(inputs, tmp_path / "alone", limit=601), ["fr"], ScoringConfig())
    assert contents(out) == contents(tmp_path / "alone")


@pytest.mark.slow
def test_two_nodes_of_ray_write_the_captions_and_losses_of_one_process_also_after_kills(
    inputs: Path, world: Path, tmp_path: Path, ray_nodes: RayNodes, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [f"{tmp_path / 'images'}/{number}.png" for number in range(150)]
    tiny_evaluation.images(tmp_path / "images", [Path(name).name for name in images])
    model, out = str(inputs / "model"), str(tmp_path / "many.json")
    decoding = "--lang fr,zh --beams 2 --max-new-tokens 5 --batch-size 2"
    captions = ["caption", *images, "--model", model, *decoding.split()]
    cells = "--captioned en --translated fr,zh --samples-per-cell 40 --batch-size 2"
    losses = ["eval", "loss", "--model", model, "--data", str(world / "test"), *cells.split()]
    place = ["--on", ray_nodes.address, "--shards", "2"]

    def run(verb: list[str], rows: Path) -> str:
        """Run a verb, kill the worker of the first shard that has written rows, and return what it writes."""

        def kill() -> bool:
            parts = [path.name for path in rows.rglob("*.partial*") if path.stat().st_size]
            shards = [name.rpartition(".partial")[2].removeprefix("-") or "0" for name in parts]
            return any(ray_nodes.kill_worker(f"shard-{shard}") for shard in shards)

        command = [*POLYGLANCE, *verb, *place]
        with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            wait_until(kill, process)
            written, said = process.communicate()
        assert process.returncode == 0, said
        assert "it goes on from its last checkpoint (retry 1 of 2)" in said
        return written

    written = run([*captions, "--out", str(tmp_path / "rows")], tmp_path / "rows")
    run([*losses, "--out", out], tmp_path / "many-rows")
    main(captions)
    assert written == capsys.readouterr().out
    assert written.count("\n") == 2 * len(images)
    main([*losses, "--out", str(tmp_path / "alone.json")])
    assert (tmp_path / "many.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
