"""The learning rate of a width, and the fingerprints of runs with and without it."""

from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.grid.job_configs import make_train_config
from polyglance.study.grid.jobs import list_jobs

STUDY = """
out = "{folder}"
data.world = {{ num_train_images = 60, num_test_images = 20 }}
coverage = {{ caption = ["en"], translation = ["en", "fr"] }}
[tower]
width = 8
samples = 80
[[families]]
name = "scratch"
widths = [16, 32]
samples = [800, 1600]
schedule = "trunk"
tower = true
optim = {{ lr = 4e-3, warmup_steps = 2, cooldown_share = 0.2 }}
"""


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(folder=tmp_path))
    return load(StudyConfig, path)


def with_lr_width(config: StudyConfig, width: int) -> StudyConfig:
    return replace(config, families=(replace(config.families[0], lr_width=width),))


def test_the_rate_falls_with_the_width(config: StudyConfig) -> None:
    scaled = with_lr_width(config, 16)
    jobs = [job for job in list_jobs(scaled) if job.kind in ("trunk", "run", "tower")]
    rates = {(job.kind, job.width): make_train_config(scaled, job).optim.lr for job in jobs}
    assert rates == {
        ("tower", 8): config.tower.optim.lr if config.tower else None,
        ("trunk", 16): 4e-3,
        ("run", 16): 4e-3,
        ("trunk", 32): 2e-3,
        ("run", 32): 2e-3,
    }


def test_runs_are_made_again_when_their_rate_changes(config: StudyConfig) -> None:
    marks = [
        {job.id: job.fingerprint for job in list_jobs(one)}
        for one in (config, with_lr_width(config, 16), with_lr_width(config, 32))
    ]
    for before, after in ((0, 1), (1, 2)):
        changed = {name for name in marks[before] if marks[before][name] != marks[after][name]}
        assert changed == {name for name in marks[before] if "scratch-d" in name}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("families.0.lr_width=0", "lr_width is 0; expected 1 or more"),
        ("families.0={name='a', sizes=['0.4b'], checkpoint='c', samples=[9], lr_width=9}", "lr_width is for widths"),
    ],
)
def test_a_width_without_effect_is_refused(config: StudyConfig, settings: str, message: str) -> None:
    path = config.out / "study.toml"
    with pytest.raises(ValueError, match=message):
        load(StudyConfig, path, overrides=[settings])
