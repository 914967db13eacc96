"""One random byte is changed in a file: that is found, or what is read is equal, or the file is made again.

Each artefact has a reader that reads all of it, as the verbs do. 400 changes in all; the first one of each file is at a
place that is not random, its last byte. `polyglance verify` finds every change of a file that has a digest.
"""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyglance.cli import main
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader, read_annotations, read_records
from polyglance.data.world import WorldConfig, generate
from polyglance.distributed import Runtime
from polyglance.engines.folders import MICRO_MODEL
from polyglance.evaluate.metrics.document_frequency import DocumentFrequency
from polyglance.evaluate.prediction_set import PredictionInfo, read_prediction_rows
from polyglance.evaluate.score_report import read_scores
from polyglance.files import read_record, seal_files
from polyglance.laws import Law
from polyglance.mixture.features import FeatureStore, write_features
from polyglance.mixture.images import ImageStore
from polyglance.mixture.token_cache import open_token_cache
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.generate import load_polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.prediction_records import RunPredictions
from polyglance.run_records import LossRecord, RunRow, cells_from_json, read_captions, read_runs, write_runs
from polyglance.study.grid.job_state import begin_job, finish_job, is_done
from polyglance.study.grid.jobs import Job
from polyglance.study.grid.verify import verify_folder
from polyglance.study.work.measure import train_run
from polyglance.train.config import RunConfig, StartConfig
from polyglance.train.signals import Stopped
from tests.study.small_records import write_laws, write_scored
from tests.train.runs import measured_run, read_weights

NUM_CHANGES = 400
JOB = Job(id="a", kind="run", folder=Path("runs/a"), fingerprint="0123456789ab")
CELLS = tuple(Cell("caption", code) for code in ("en", "fr", "zh"))


@dataclass
class Artefact:
    """A folder, a function that reads all of it, and the files of it that are looked at by nobody."""

    folder: Path
    read: Callable[[Path], Any]
    not_read: tuple[str, ...] = ()


def make_config(world: Path, out: Path) -> RunConfig:
    start = StartConfig(model=MicroConfig(width=8))
    return measured_run(world, out, start=start, num_samples=8 * 6, best="loss_nats")


@pytest.fixture(scope="module")
def artefacts(world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Artefact]:
    root = tmp_path_factory.mktemp("artefacts")
    shutil.copytree(world, root / "world")
    train_run(make_config(root / "world", root / "done"), lambda: False)
    with pytest.raises(Stopped):
        train_run(make_config(root / "world", root / "begun"), iter([False] * 4 + [True]).__next__)
    expected = read_weights(root / "done")
    _make_others(root / "others")
    reader = ShardReader(root / "world" / "train")
    tokenizer = load_tokenizer(root / "done" / "tokenizer-1024.json")
    open_token_cache(reader, tokenizer, tokenizer, root=root / "tokens")
    write_features(
        root / "features",
        lambda pixels: torch.from_numpy(pixels.reshape(len(pixels), 4, -1).astype(np.float32)),
        ImageStore(reader, 8),
        fingerprint="abc",
        dtype="float32",
        runtime=Runtime.single(),
    )
    begin_job(root / "study", JOB)
    finish_job(root / "study", JOB)
    write_runs(root / "study" / "runs.csv", [RunRow(id="a", family="f", UC=1.5), RunRow(id="b", family="f", UC=2.5)])
    seal_files(root / "study", ["runs.csv"])

    def read_cache(folder: Path) -> Any:
        texts = open_token_cache(reader, tokenizer, tokenizer, root=folder)
        everything = np.arange(sum(reader.manifest.rows_per_cell.values()))
        pools = [[np.asarray(a).tolist() for a in vars(pool).values()] for pool in texts.pools(CELLS).values()]
        return texts.tokens(everything), texts.lengths(everything).tolist(), texts.group_starts().tolist(), pools

    def go_on(folder: Path) -> Any:
        train_run(make_config(root / "world", folder), lambda: False)
        weights = read_weights(folder)
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
        rows = [json.loads(line)["loss_nats"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return rows, _read_losses(folder)

    write_scored(root / "scored")
    write_laws(root / "laws")
    shutil.copytree(MICRO_MODEL, root / "micro")
    return [
        Artefact(root / "scored", _read_scored),
        Artefact(root / "laws", _read_laws),
        Artefact(root / "micro", _read_model),
        Artefact(root / "world" / "train", _read_data, ("features",)),
        Artefact(root / "tokens", read_cache),
        Artefact(root / "features", lambda folder: FeatureStore(folder)[range(len(reader))].tolist()),
        Artefact(root / "done" / "checkpoints" / "final", _read_model),
        Artefact(root / "done", _read_losses, ("checkpoints",)),
        Artefact(root / "study", _read_study),
        Artefact(root / "begun", go_on),
    ]


def _make_others(root: Path) -> None:
    """Make the same kinds of artefacts once more, of another seed; their folders have the same names."""
    config = WorldConfig(languages=("en", "fr", "zh"), num_train_images=200, num_test_images=40, seed=5)
    generate(config, root / "world")
    train_run(replace(make_config(root / "world", root / "done"), seed=5), lambda: False)
    with pytest.raises(Stopped):
        train_run(replace(make_config(root / "world", root / "begun"), seed=5), iter([False] * 4 + [True]).__next__)
    reader, tokenizer = ShardReader(root / "world" / "train"), load_tokenizer(root / "done" / "tokenizer-1024.json")
    open_token_cache(reader, tokenizer, tokenizer, root=root / "tokens")
    write_features(
        root / "features",
        lambda pixels: torch.from_numpy(pixels.reshape(len(pixels), 4, -1).astype(np.float32)),
        ImageStore(reader, 8),
        fingerprint="abd",
        dtype="float32",
        runtime=Runtime.single(),
    )
    write_scored(root / "scored", last="a little boat")
    write_laws(root / "laws", seed=1)


def _read_data(folder: Path) -> Any:
    reader = ShardReader(folder)
    records = list(read_records(folder))
    assert reader.images(range(len(reader))) == [record.image for record in records]
    return records, list(read_annotations(folder)), reader.manifest.rows_per_cell, reader.manifest.prefixes


def _read_study(folder: Path) -> Any:
    if not is_done(folder, JOB):  # a damaged mark is none: the job is done again
        begin_job(folder, JOB)
        finish_job(folder, JOB)
    return is_done(folder, JOB), read_runs(folder / "runs.csv")


def _read_model(folder: Path) -> Any:
    model, processor = load_polyglance(folder), Processor.load(folder)
    weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    return weights, model.config.to_dict(), processor.config, processor.decoder_tokenizer.to_str()


def _read_losses(folder: Path) -> Any:
    record = LossRecord.read(folder / "losses.json")
    initial = cells_from_json(read_record(folder / "initial.json"), "initial.json")
    return record.cells, record.initial, initial, read_captions(folder / "captions.jsonl")


def _read_scored(folder: Path) -> Any:
    info = PredictionInfo.read(folder)
    return read_scores(folder).as_dict(), read_prediction_rows(folder), info


def _read_laws(folder: Path) -> Any:
    runs, predictions = read_runs(folder / "runs.csv"), RunPredictions.read(folder / "predictions.json")
    return Law.load(folder / "law.json").to_dict(), DocumentFrequency.load(folder / "df.json"), runs, predictions


def files_of(artefact: Artefact) -> list[Path]:
    paths = sorted(path for path in artefact.folder.rglob("*") if path.is_file() and path.stat().st_size)
    return [path for path in paths if path.relative_to(artefact.folder).parts[0] not in artefact.not_read]


def change_byte(path: Path, draw: random.Random, *, is_first: bool) -> None:
    content = bytearray(path.read_bytes())
    place = len(content) - 1 if is_first else draw.randrange(len(content))
    content[place] ^= draw.randrange(1, 256)
    path.write_bytes(content)


def test_no_byte_changes_unseen(artefacts: list[Artefact], tmp_path: Path) -> None:
    draw, num_changes, found = random.Random(16), 0, 0
    for artefact in artefacts:
        with redirect_stderr(StringIO()):
            expected = artefact.read(shutil.copytree(artefact.folder, tmp_path / "copy"))
        shutil.rmtree(tmp_path / "copy")
        files = files_of(artefact)
        assert files
        is_slow = artefact.folder.name == "begun"
        wanted = 30 if is_slow else -(-(NUM_CHANGES - 30) // (len(artefacts) - 1))
        changes = [(path, number) for number in range(wanted) for path in files][: max(wanted, len(files))]
        for path, round_number in changes:
            copy = shutil.copytree(artefact.folder, tmp_path / "copy")
            where = path.relative_to(artefact.folder)
            change_byte(copy / where, draw, is_first=not round_number)
            num_changes += 1
            with redirect_stderr(StringIO()) as said:
                try:
                    assert artefact.read(copy) == expected, (where, round_number)
                    message = ""
                except ValueError as error:
                    message = str(error)
            found += bool(message)
            assert "\n" not in message, (where, message)
            assert "Traceback" not in said.getvalue()
            shutil.rmtree(copy)
    assert num_changes >= NUM_CHANGES
    assert found > NUM_CHANGES // 2


def do_damage(path: Path, other: Path | None, kind: str) -> None:
    """Cut a file, empty it, remove it, put a folder, a link to nothing or the file of another run in its place."""
    content = path.read_bytes()
    path.unlink()
    match kind:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "emptied":
            path.touch()
        case "a folder":
            path.mkdir()
        case "a link":
            path.symlink_to("nowhere")
        case "another's" if other is not None:
            path.write_bytes(other.read_bytes())
        case "another's, of equal size" if other is not None:
            path.write_bytes(other.read_bytes()[: len(content)].ljust(len(content), b"\n"))


DAMAGE = ("cut", "emptied", "removed", "a folder", "a link", "another's", "another's, of equal size")


def test_no_other_damage_is_unseen(artefacts: list[Artefact], tmp_path: Path) -> None:
    num_tried, num_refused = 0, 0
    for artefact in artefacts:
        if artefact.folder.name == "begun":
            continue  # slow: below
        others = _find_others(artefact)
        with redirect_stderr(StringIO()):
            expected = artefact.read(shutil.copytree(artefact.folder, tmp_path / "copy"))
        shutil.rmtree(tmp_path / "copy")
        for path in files_of(artefact):
            where = path.relative_to(artefact.folder)
            other = others / where if others is not None and (others / where).is_file() else None
            for kind in DAMAGE if other is not None else DAMAGE[:-2]:
                copy = shutil.copytree(artefact.folder, tmp_path / "copy")
                do_damage(copy / where, other, kind)
                num_tried += 1
                with redirect_stderr(StringIO()):
                    try:
                        found, message = artefact.read(copy), ""
                    except (ValueError, OSError) as error:
                        message = str(error)
                if not message:
                    is_undone = kind == "removed" and where.name in ("polyglance-digests.json", "env.json")
                    assert found == expected or is_undone, (artefact.folder.name, where, kind)
                num_refused += bool(message)
                assert "\n" not in message, (where, message)
                shutil.rmtree(copy)
    assert num_tried > 200
    assert num_refused > num_tried // 2


def test_small_files_of_an_unfinished_run_that_are_cut_or_anothers(artefacts: list[Artefact], tmp_path: Path) -> None:
    """Only what a person removes on purpose (the list of digests) may let another run's record in."""
    (begun,) = (artefact for artefact in artefacts if artefact.folder.name == "begun")
    others = _find_others(begun)
    assert others is not None
    with redirect_stderr(StringIO()):
        expected = begun.read(shutil.copytree(begun.folder, tmp_path / "copy"))
    shutil.rmtree(tmp_path / "copy")
    outcomes: dict[str, list[str]] = {}
    for path in sorted(path for path in begun.folder.iterdir() if path.is_file() and path.stat().st_size):
        for kind in ("cut", "another's"):
            copy = shutil.copytree(begun.folder, tmp_path / "copy")
            do_damage(copy / path.name, others / path.name, kind)
            with redirect_stderr(StringIO()):
                try:
                    assert begun.read(copy) == expected, (path.name, kind)
                    outcomes.setdefault(path.name, []).append("same")
                except ValueError as error:
                    outcomes.setdefault(path.name, []).append(str(error))
            shutil.rmtree(copy)
    assert outcomes["initial.json"] == ["same", "same"]
    assert "remove it to use the files beside it as they are" in outcomes["polyglance-digests.json"][0]
    assert "other settings" in outcomes["settings.json"][1]


def _find_others(artefact: Artefact) -> Path | None:
    """Return the folder of the same kind that was made with another seed."""
    root = next(folder for folder in artefact.folder.parents if (folder / "others").exists())
    others = root / "others" / artefact.folder.relative_to(root)
    return others if others.exists() else None


def test_verify_finds_every_change_of_what_has_a_digest(
    artefacts: list[Artefact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = artefacts[0].folder.parent
    whole = verify_folder(root)
    assert whole.problems == ()
    assert whole.num_files > 40
    unlisted = {Path(name).name for name in whole.without_digest}
    assert unlisted <= {"env.json", "config.toml", "metrics.jsonl", "samples.json", "tokenizer-1024.json", ".lock"}
    draw = random.Random(4)
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size):
        name = str(path.relative_to(root))
        if name in whole.without_digest or path.name == ".lock":
            continue
        content = path.read_bytes()
        for is_first in (False, True):
            change_byte(path, draw, is_first=is_first)
            problems = verify_folder(path.parent if path.parent.name != "shards" else path.parents[1]).problems
            is_spacing = path.suffix == ".json" and not problems and is_same_json(path.read_bytes(), content)
            assert problems or is_spacing, name
            path.write_bytes(content)
    main(["verify", str(root)])
    assert ", 0 problems\n" in capsys.readouterr().out
    change_byte(root / "done" / "losses.json", draw, is_first=False)
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(root)])
    assert ended.value.code == 1
    assert "losses.json: damaged or changed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["verify", str(tmp_path / "nowhere")])


def is_same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False
