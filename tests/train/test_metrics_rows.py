"""metrics.jsonl, read while it is written: half lines, damaged lines, a file that is written anew."""

import json
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from polyglance.train.metrics_rows import MetricsReader


def line(step: int, loss: float = 1.0, rate: float = 10.0) -> str:
    return json.dumps({"step": step, "loss_nats": loss, "samples_per_s": rate}) + "\n"


def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    assert reader.read() == []  # not there yet
    path.write_text(line(25) + line(50, 0.5)[:20])
    assert [row.step for row in reader.read()] == [25]  # the half line waits
    with path.open("a") as file:
        file.write(line(50, 0.5)[20:])
    assert reader.read() == [(25, 1.0, 10.0), (50, 0.5, 10.0)]
    new = tmp_path / "new"
    new.write_text(line(25) + line(30, 0.7))  # a run that goes on from a checkpoint writes its log anew
    new.replace(path)
    assert reader.read() == [(25, 1.0, 10.0), (30, 0.7, 10.0)]
    path.write_text("")
    assert reader.read() == []
    path.unlink()
    assert reader.read() == []


def test_what_is_no_row_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    wrong = ["{", "[]", "3", '{"step": "4"}', '{"step": true}', '{"step": -1}', "\0\0", "[" * 5000, '{"step": 1e9}']
    path.write_text("\n".join([*wrong, line(7, math.nan, 0.0).strip(), ""]))
    reader = MetricsReader(path)
    (row,) = reader.read()
    assert (row.step, math.isnan(row.loss_nats), math.isnan(row.samples_per_s)) == (7, True, True)
    assert reader.num_damaged == len(wrong)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_in_any_pieces_are_read_as_in_one(tmp_path_factory: object, content: bytes, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]
    content += line(3).encode() + line(5).encode()
    pieces, whole = MetricsReader(folder / "pieces"), MetricsReader(folder / "whole")
    (folder / "whole").write_bytes(content)
    for end in (*sorted(cuts), len(content)):
        with (folder / "pieces").open("ab") as file:
            file.write(content[file.tell() : end])
        pieces.read()
    assert (pieces.rows, pieces.num_damaged) == (whole.read(), whole.num_damaged)
