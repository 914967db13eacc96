"""One random byte is changed in a file: that is found, or what is read is equal, or the file is made again.

Each artefact has a reader that reads all of it, as the verbs do. 330 changes in all; the first one of each file is at a
place that is not random, its last byte. `polyglance verify` finds every change of a file that has a digest.
"""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyglance.cli import main
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader, read_annotations, read_records
from polyglance.distributed import Runtime
from polyglance.files import read_record, seal_files
from polyglance.mixture.features import FeatureStore, write_features
from polyglance.mixture.images import ImageStore
from polyglance.mixture.token_cache import open_token_cache
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.generate import load_polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.run_records import LossRecord, RunRow, cells_from_json, read_captions, read_runs, write_runs
from polyglance.study.job_state import begin_job, finish_job, is_done
from polyglance.study.jobs import Job
from polyglance.study.measure import train_run
from polyglance.study.verify import verify_folder
from polyglance.train.config import RunConfig, StartConfig
from polyglance.train.signals import Stopped
from tests.train.runs import measured_run, read_weights

NUM_CHANGES = 330
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

    return [
        Artefact(root / "world" / "train", _read_data, ("features",)),
        Artefact(root / "tokens", read_cache),
        Artefact(root / "features", lambda folder: FeatureStore(folder)[range(len(reader))].tolist()),
        Artefact(root / "done" / "checkpoints" / "final", _read_model),
        Artefact(root / "done", _read_losses, ("checkpoints",)),
        Artefact(root / "study", _read_study),
        Artefact(root / "begun", go_on),
    ]


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
        wanted = 30 if is_slow else (NUM_CHANGES - 30) // (len(artefacts) - 1)
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


def test_verify_finds_every_change_of_what_has_a_digest(
    artefacts: list[Artefact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = artefacts[0].folder.parent.parent
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
    assert "0 of them differ" in capsys.readouterr().out
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
