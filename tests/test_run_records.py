"""Records of runs: what is written is read back, means follow their definition, and damage is one line."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.coverage import SPLITS, Cell
from polyglance.run_records import (
    RUN_COLUMNS,
    VARIANTS,
    CaptionScores,
    CellLoss,
    CellRecord,
    GeneratedCaption,
    LossRecord,
    RunRow,
    average_split,
    average_splits,
    read_captions,
    read_runs,
    write_captions,
    write_runs,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
measure_cell = st.builds(CellLoss, **dict.fromkeys(("nats", "mean_nats", "first_nats"), numbers))
scores = st.builds(
    CaptionScores,
    **dict.fromkeys(("right_language", "exact_match"), numbers),
    attributes=st.dictionaries(st.sampled_from(["colour", "shape"]), numbers),
)
cell_records = st.builds(
    CellRecord,
    split=st.sampled_from([*SPLITS, None]),
    losses=st.dictionaries(st.sampled_from(VARIANTS), measure_cell),
    generation=st.dictionaries(st.sampled_from(["plain", "prefix"]), scores),
)
cells = st.dictionaries(st.builds(Cell, st.sampled_from(["caption", "translation"]), st.just("fr")), cell_records)


@given(st.builds(LossRecord, run=st.text(), cells=cells, initial=st.none() | cells))
def test_losses_json_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, record: LossRecord) -> None:
    path = tmp_path_factory.mktemp("record") / "losses.json"
    record.write(path)
    assert LossRecord.read(path) == record


def loss(mean_nats: float, **more: Any) -> CellLoss:
    values = {"samples": 2, "tokens": 8, "bytes": 20, "nats": 8 * mean_nats, "first_nats": 9.0}
    return CellLoss(mean_nats=mean_nats, **{**values, **more})


def record() -> LossRecord:
    """Two unseen languages, one of them without the loss after the prefix; German seen."""
    fr, zh, de = Cell("caption", "fr"), Cell("caption", "zh"), Cell("caption", "de")
    return LossRecord(
        run="r",
        cells={
            fr: CellRecord(split="UC", losses={"plain": loss(1.0), "prefix": loss(0.5)}),
            zh: CellRecord(split="UC", losses={"plain": loss(4.0)}),
            de: CellRecord(split="SC", losses={"plain": loss(0.25), "prefix": loss(0.125)}),
            Cell("translation", "en"): CellRecord(split=None, losses={"plain": loss(7.0)}),
        },
        initial={fr: CellRecord(split="UC", losses={"plain": loss(5.0)})},
    )


def test_splits_weigh_their_cells_alike_and_need_all_of_them() -> None:
    assert average_splits(record().cells.values()) == {"UC": 2.5, "SC": 0.25}
    assert record().split_loss("UC", "prefix") is None
    assert record().split_loss("ST") is None
    assert record().summary() == {"UC": 2.5, "SC": 0.25, "T": 5.0, "SC_prefix": 0.125}
    assert average_split(record().cells.values(), "UC", lambda cell: cell.losses["plain"].first_nats) == 9.0
    assert "T" not in LossRecord(run="r", cells=record().cells).summary()


def test_bits_per_byte() -> None:
    assert loss(1.0).bits_per_byte == pytest.approx(8 / math.log(2) / 20)
    assert math.isnan(loss(1.0, bytes=0).bits_per_byte)


def change(values: Any, path: str, value: Any) -> Any:
    """Set one value of nested JSON; `...` removes it."""
    *parents, last = path.split(".")
    place = values
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return values


PLAIN = "cells.caption-fr.losses.plain"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 9, "format 9; this version of polyglance reads format 1"),
        ("cells", [], "cells: expected a table, got []"),
        ("cells.caption-xx", {"split": None, "losses": {}}, "cells.caption-xx: unknown language 'xx'"),
        ("cells.caption-fr.split", "XX", "cells.caption-fr.split: 'XX' is not a choice; known: SC, ST, UC"),
        ("cells.caption-fr.losses.blind", {}, "losses.blind: 'blind' is not a choice; did you mean 'plain'?"),
        (f"{PLAIN}.bytes", ..., "losses.plain: the key 'bytes' is missing"),
        (f"{PLAIN}.mean_nats", None, "plain.mean_nats: expected a number, got None"),
        (f"{PLAIN}.nats", True, "plain.nats: expected a number, got True"),
    ],
)
def test_damage_in_losses_json_is_one_line(tmp_path: Path, path: str, value: Any, message: str) -> None:
    file = tmp_path / "losses.json"
    file.write_text(json.dumps(change(record().to_json(), path, value)))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        LossRecord.read(file)
    assert "\n" not in str(caught.value)


def test_captions_read_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    texts = ["", '图为\u2028 "quoted"\n']
    captions = tuple(
        GeneratedCaption(key=f"k{i}", language="zh", prefix="图为", caption=text, reference=text)
        for i, text in enumerate(texts)
    )
    write_captions(path, captions)
    assert read_captions(path) == captions
    path.write_text(path.read_text() + '{"key": "x"}\n')
    with pytest.raises(ValueError, match=r"captions.jsonl:3: the key 'language' is missing"):
        read_captions(path)


row_numbers = st.none() | st.floats(-1e25, 1e25) | st.just(math.inf)
run_rows = st.builds(
    RunRow,
    id=st.uuids().map(str),
    **dict.fromkeys(("family", "size", "start"), st.text('aß图, "')),
    seed=st.none() | st.integers(0, 2**50),
    **dict.fromkeys(RUN_COLUMNS[5:], row_numbers),
)


@given(st.lists(run_rows, min_size=1, max_size=3))
def test_runs_csv_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[RunRow]) -> None:
    path = tmp_path_factory.mktemp("rows") / "runs.csv"
    write_runs(path, rows)
    assert list(read_runs(path)) == rows


def test_a_number_that_was_not_measured_is_an_empty_cell_and_one_that_diverged_is_not(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    write_runs(path, [RunRow(id="a", family="f", seed=0, P=12, UC=math.nan, ST=0.5)])
    head, cells = (line.split(",") for line in path.read_text().splitlines())
    written = {name: cell for name, cell in zip(head, cells, strict=True) if cell}
    assert written == {"id": "a", "family": "f", "seed": "0", "P": "12", "UC": "nan", "ST": "0.5"}
    (row,) = read_runs(path)
    assert row.SC is None
    assert math.isnan(row["SC"])
    assert row["P"] == 12.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "runs.csv: the file is empty"),
        ("id\na\n", "runs.csv: the column 'family' is missing"),
        ("id,family\n", "runs.csv: no run is finished yet"),
        ("id,family,P\na,f,many\n", "runs.csv:2: P: expected a number, got 'many'"),
        ("id,family,P\na,f,1e300\n", "runs.csv:2: P: 1e300 is out of range"),
        ("id,family,seed\na,f,1.5\n", "runs.csv:2: seed: expected a whole number, got '1.5'"),
        ("id,family\na,f\na,f\n", "runs.csv:3: the run 'a' occurs twice"),
        ("id,family\n../a,f\n", "runs.csv:2: id: '../a' cannot be the name of a folder"),
        ("id,family\na,\x01\n", "runs.csv:2: family: '\\x01' has characters that cannot be printed"),
        ("id,family\na\n", "runs.csv:2: wrong number of cells: 1 cells, the header has 2"),
    ],
)
def test_damage_in_runs_csv_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{message}")):
        read_runs(path)
