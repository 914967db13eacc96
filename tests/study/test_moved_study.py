"""A study goes on wherever it and its inputs lie, and makes again what is damaged, and nothing else."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from polyglance.cli import main
from polyglance.config import load
from polyglance.data.world import describe, render, sample_scene
from polyglance.study import StudyConfig, read_study_status, run_study, study, write_study_report
from polyglance.study.grid.inputs import note_inputs
from polyglance.study.grid.job_state import begin_job, finish_job, is_done
from polyglance.study.grid.jobs import Job, list_jobs
from polyglance.study.grid.verify import verify_folder
from polyglance.study.places.schedulers import ThisProcess

TOML = """
out = "{out}"
data = {data}
save_every_steps = 3
vocab_size = 400
coverage = {{ caption = ["en"], translation = ["en", "fr"] }}
mixture = {{ batch_size = 8, token_cache = "{cache}" }}
language_models.all = {{ languages = {{ en = 1, fr = 1 }}, steps = 4 }}
tower = {{ width = 8, samples = 24 }}
evaluation = {{ samples_per_cell = 4, captions_per_cell = 2, examples = 1, max_new_tokens = 2 }}
laws = {{ targets = ["UC"], bootstrap = 0 }}
families = [
    {{ name = "scratch", widths = [8], samples = [16, 32] }},
    {{ name = "frozen", decoder = "gemma2", widths = [8], samples = [16], starts = ["all"], tower = true }},
]
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with its images, and the data sets that are made of them."""
    root = tmp_path_factory.mktemp("sources")
    (root / "images").mkdir()
    with (root / "table.jsonl").open("w") as file:
        for index in range(80):
            scene = sample_scene("pairs", seed=0, index=index)
            Image.fromarray(render(scene, 32)).save(root / "images" / f"{index}.png")
            texts = {code: describe(scene, code) for code in ("en", "fr")}
            file.write(json.dumps({"image": f"images/{index}.png", "texts": texts}) + "\n")
    main(["data", "import", "--table", str(root / "table.jsonl"), "--images", str(root), "--out", str(root / "sets")])
    return root


@pytest.fixture
def done_jobs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each job is done. All are done in this process."""
    counts: Counter[str] = Counter()

    class Counted(ThisProcess):
        def start(self, job: Job) -> None:
            counts[job.id] += 1
            super().start(job)

    monkeypatch.setattr(study, "LocalWorkers", lambda config, num_slots: Counted(config))
    return counts


def make_study(out: Path, source: Path, kind: str) -> StudyConfig:
    data = f'{{ path = "{source / "sets"}" }}'
    if kind == "table":
        data = f'{{ table = {{ table = "{source / "table.jsonl"}", images = "{source}", test_fraction = 0.3 }} }}'
    path = source / "recipe.toml"
    path.write_text(TOML.format(out=out, data=data, cache=out.parent / "cache"))
    return load(StudyConfig, path)


class Stopped(Exception):
    """The study is stopped after a job."""


@contextmanager
def stop_after_one_job(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    run_jobs = study.run_jobs

    def stop(line: str) -> None:
        raise Stopped(line)

    def run_one(*args: object, **options: object) -> object:
        return run_jobs(*args, **{**options, "on_done": lambda *_: stop("done")})  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(study, "run_jobs", run_one)
        yield


@pytest.mark.parametrize("kind", ["table", "path"])
def test_a_study_is_moved_between_every_two_jobs(
    kind: str, sources: Path, tmp_path: Path, done_jobs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Study and inputs: to another folder, named in full, from the working folder, by a link; copied, without times."""
    monkeypatch.chdir(tmp_path)
    whole = run_study(make_study(tmp_path / "whole", sources, kind))
    done_jobs.clear()
    source, out = shutil.copytree(sources, tmp_path / "source"), tmp_path / "place" / "study"
    jobs = list_jobs(make_study(out, source, kind))
    for number in range(20):
        with stop_after_one_job(monkeypatch):
            try:
                run_study(make_study(out, source, kind))
                break
            except Stopped:
                pass
        new = tmp_path / f"place-{number}" / "study"
        shutil.copytree(out, new, copy_function=shutil.copyfile)
        shutil.rmtree(out.resolve())
        new_source = tmp_path / f"source-{number}"
        shutil.copytree(source, new_source, copy_function=shutil.copyfile)
        shutil.rmtree(source.resolve())
        out, source = new, new_source
        match number % 3:
            case 1:
                out, source = Path(os.path.relpath(out)), Path(os.path.relpath(source))
            case 2:
                (tmp_path / f"link-{number}").symlink_to(new.parent)
                out = tmp_path / f"link-{number}" / "study"
    assert (out / "runs.csv").read_bytes() == whole.table.read_bytes()
    assert max(done_jobs.values()) == 1, done_jobs
    assert number >= len(jobs) - 3  # data and tokenizer are made with the plan
    config = make_study(out, source, kind)
    shutil.rmtree(source.resolve())
    assert set(read_study_status(config).jobs.values()) == {"done"}, "a finished study needs its source no more"
    write_study_report(config)
    assert (out / "runs.csv").read_bytes() == whole.table.read_bytes()


def test_other_content_is_another_input(sources: Path, tmp_path: Path) -> None:
    """An image, a text, a setting of the import; but not a place."""
    source = shutil.copytree(sources, tmp_path / "a")

    def marks(folder: Path, kind: str = "table") -> set[str]:
        return {job.fingerprint for job in list_jobs(make_study(tmp_path / "out", folder, kind))}

    expected = marks(source)
    moved = source.rename(tmp_path / "b")
    assert marks(moved) == expected
    assert marks(moved, "path").isdisjoint(expected)
    (moved / "images" / "3.png").write_bytes((moved / "images" / "4.png").read_bytes())
    other = moved.rename(tmp_path / "c")
    assert marks(other).isdisjoint(expected)
    shutil.copy(sources / "images" / "3.png", other / "images" / "3.png")
    back = other.rename(tmp_path / "d")
    assert marks(back) == expected
    (back / "table.jsonl").write_text((back / "table.jsonl").read_text().replace("circle", "disc"))
    assert marks(back).isdisjoint(expected)
    by_path = marks(sources, "path")
    manifest = json.loads((back / "sets" / "train" / "manifest.json").read_text())
    del manifest["seal"]
    manifest["shards"][0]["sha256"] = "0" * 64
    (back / "sets" / "train" / "manifest.json").write_text(json.dumps(manifest))
    assert marks(back, "path").isdisjoint(by_path)


def test_an_image_that_is_altered_in_its_place_is_another_input(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen at the next start; where no file has another size or time, nothing is read."""
    source = shutil.copytree(sources, tmp_path / "a")
    config = make_study(tmp_path / "a" / "out", source, "table")  # its own files are no part of the input

    def marks() -> set[str]:
        return {job.fingerprint for job in list_jobs(config)}

    expected = marks()
    note_inputs(config)
    with monkeypatch.context() as patch:
        patch.setattr("polyglance.study.grid.inputs.digest_sources", lambda *_: pytest.fail("the images were read"))
        assert marks() == expected
    image = source / "images" / "3.png"
    content = image.read_bytes()
    image.write_bytes((source / "images" / "4.png").read_bytes())
    assert marks().isdisjoint(expected)
    image.write_bytes(content)
    assert marks() == expected


def test_the_file_in_a_study_s_folder_is_about_that_folder(
    sources: Path, tmp_path: Path, done_jobs: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(make_study(tmp_path / "old", sources, "table"))
    done_jobs.clear()
    (tmp_path / "old").rename(tmp_path / "new")
    main(["study", "run", str(tmp_path / "new" / "study.toml")])
    assert not done_jobs
    assert not (tmp_path / "old").exists()
    assert f"its folder was moved from {tmp_path / 'old'}" in capsys.readouterr().err


def test_no_data_is_removed_that_cannot_be_made_again(sources: Path, tmp_path: Path) -> None:
    source = shutil.copytree(sources, tmp_path / "source")
    config = make_study(tmp_path / "out", source, "table")
    study.plan_study(config)
    images = (tmp_path / "out" / "data" / "train" / "manifest.json").read_bytes()
    shutil.rmtree(source)
    (tmp_path / "out" / "data" / "done.json").unlink()
    with pytest.raises(ValueError, match=r"table\.jsonl: no such file; the study's data is imported from it"):
        study.plan_study(config)
    assert (tmp_path / "out" / "data" / "train" / "manifest.json").read_bytes() == images
    shutil.copytree(sources / "sets", tmp_path / "again" / "data")
    source.mkdir()
    config = make_study(tmp_path / "again", source, "path")
    text = (source / "recipe.toml").read_text().replace(str(source / "sets"), str(tmp_path / "again" / "data"))
    (source / "recipe.toml").write_text(text)
    with pytest.raises(ValueError, match="the folder of the study's own data"):
        study.plan_study(load(StudyConfig, source / "recipe.toml"))
    assert verify_folder(tmp_path / "again" / "data").problems == ()


FLIP, CUT, GONE = "flip", "cut", "gone"


@pytest.mark.parametrize(
    ("path", "harm", "expected"),
    [
        ("starts/lm-all-d8/checkpoints/final/model.safetensors", FLIP, {"lm-all-d8"}),
        ("starts/lm-all-d8/checkpoints/final", GONE, {"lm-all-d8"}),
        ("starts/tower/checkpoints/final/config.json", FLIP, {"tower"}),
        ("starts/tower/checkpoints/final/polyglance-digests.json", CUT, {"tower"}),
        ("tokenizer/tokenizer.json", FLIP, {"tokenizer"}),
        ("tokenizer/lengths.json", GONE, {"tokenizer"}),
        ("data/train/shards/00000.parquet", FLIP, {"data"}),
        ("data/test/manifest.json", CUT, {"data"}),
        ("runs/scratch-d8-s16-seed0/losses.json", FLIP, {"scratch-d8-s16-seed0"}),
        ("runs/scratch-d8-s16-seed0/captions.jsonl", GONE, {"scratch-d8-s16-seed0"}),
        ("runs/scratch-d8-s16-seed0/polyglance-digests.json", CUT, {"scratch-d8-s16-seed0"}),
        ("runs/scratch-d8-s16-seed0", GONE, {"scratch-d8-s16-seed0"}),
    ],
)
def test_what_the_study_has_made_is_made_again(
    finished: Callable[[Path], StudyConfig],
    path: str,
    harm: str,
    expected: set[str],
    tmp_path: Path,
    done_jobs: Counter[str],
) -> None:
    """The run that starts from all of it is not done yet."""
    config = finished(tmp_path / "out")
    table = (config.out / "runs.csv").read_bytes()
    run = "frozen-all-d8-s16-seed0"
    (config.out / "runs" / run / "done.json").unlink()
    _harm(config.out / path, harm)
    said: list[str] = []
    result = run_study(config, say=said.append)
    made = {line.split(":")[0] for line in said if line.endswith(("made again", "measured again"))}
    planned = {"data", "tokenizer"}  # made with the plan, outside the scheduler
    if harm != GONE or path != "runs/scratch-d8-s16-seed0":
        assert made == expected, said
    assert set(done_jobs) == {run} | (expected - planned)
    assert result.table.read_bytes() == table


def test_both_records_and_model_of_a_run_are_made_again(
    finished: Callable[[Path], StudyConfig], tmp_path: Path, done_jobs: Counter[str]
) -> None:
    config = finished(tmp_path / "out")
    table = (config.out / "runs.csv").read_bytes()
    folder = config.out / "runs" / "scratch-d8-s32-seed0"
    _harm(folder / "losses.json", FLIP)
    _harm(folder / "checkpoints" / "final" / "model.safetensors", FLIP)
    assert run_study(config).table.read_bytes() == table
    assert done_jobs == {"scratch-d8-s32-seed0": 1}


@pytest.fixture(scope="module")
def finished(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], StudyConfig]:
    """Return a function that copies a finished study."""
    root = tmp_path_factory.mktemp("finished")
    run_study(make_study(root / "out", sources, "table"), workers=1)

    def copy(out: Path) -> StudyConfig:
        shutil.copytree(root / "out", out)
        return make_study(out, sources, "table")

    return copy


def _harm(path: Path, kind: str) -> None:
    if kind == GONE:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if kind == FLIP else content[: len(content) // 2])


def test_a_checkpoint_counts_by_its_content(tmp_path: Path) -> None:
    """Of published sizes; one that is not there any more counts as it was last seen. Marks of older versions hold."""

    def jobs(models: Path, size: str = "1.0b") -> dict[str, Job]:
        (tmp_path / "study.toml").write_text(
            f'out = "{tmp_path / "out"}"\ndata.path = "nowhere"\ncoverage.caption = ["en"]\n'
            f'[[families]]\nname = "a"\nsizes = ["{size}"]\ncheckpoint = "{models}/{{size}}"\nsamples = [1024]\n'
        )
        return {job.id: job for job in list_jobs(load(StudyConfig, tmp_path / "study.toml"))}

    folder = tmp_path / "models" / "1.0b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (run,) = (job for job in jobs(folder.parent).values() if job.kind == "run")
    note_inputs(load(StudyConfig, tmp_path / "study.toml"))
    moved = folder.parent.rename(tmp_path / "elsewhere")
    assert jobs(moved)[run.id].fingerprint == run.fingerprint != run.by_path
    assert jobs(tmp_path / "gone")[run.id].fingerprint == run.fingerprint
    (moved / "1.0b" / "model.safetensors").write_bytes(b"Weights")
    assert jobs(moved)[run.id].fingerprint != run.fingerprint
    begin_job(tmp_path / "out", replace(run, fingerprint=run.by_path))
    finish_job(tmp_path / "out", replace(run, fingerprint=run.by_path))
    assert is_done(tmp_path / "out", run)
