"""A study whose runs are not all finite: the others are in its table, and the failed ones are named."""

import json
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.run_records import read_runs

TOML = """
out = "{out}"
data.world = {{ num_train_images = 60, num_test_images = 20 }}
coverage = {{ caption = ["en"], translation = ["en", "fr"] }}
mixture.batch_size = 8
evaluation = {{ samples_per_cell = 4, captions_per_cell = 2, examples = 1, max_new_tokens = 2 }}
laws = {{ targets = ["UC"], bootstrap = 0 }}
families = [
    {{ name = "calm", widths = [8], samples = [16, 32] }},
    {{ name = "wild", widths = [8], samples = [16], optim = {{ lr = 1e38, warmup_steps = 0 }} }},
]
"""


def test_a_run_that_diverges_is_marked_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "study.toml").write_text(TOML.format(out=tmp_path / "out"))
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", str(tmp_path / "study.toml"), "--workers", "1", "--json"])
    assert ended.value.code == 3
    printed = capsys.readouterr()
    assert "failed, the others go on: wild-d8-s16-seed0: " in printed.err
    (line,) = json.loads(printed.out)["failed"]
    assert "not finite" in line
    assert "lower lr" in line
    assert [row.id for row in read_runs(tmp_path / "out" / "runs.csv")] == ["calm-d8-s16-seed0", "calm-d8-s32-seed0"]
    main(["study", "status", str(tmp_path / "study.toml"), "--json"])
    status = json.loads(capsys.readouterr().out)
    assert status["jobs"]["wild-d8-s16-seed0"] == "failed"
    assert "not finite" in status["problems"]["wild-d8-s16-seed0"]
    main(["study", "report", str(tmp_path / "study.toml"), "--json"])
    assert json.loads(capsys.readouterr().out)["num_runs"] == 2
