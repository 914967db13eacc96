"""Record that table, laws and report of a study are up to date, so that they need not be made again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

from polyglance import __version__
from polyglance.config import fingerprint, from_dict, to_dict
from polyglance.files import file_sha256, read_record, write_record
from polyglance.study.cluster import ClusterConfig, StudyClusterConfig
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job

__all__ = ["Conclusion"]

_NAME = "conclusion.json"
_INPUTS = ("losses.json", "captions.jsonl", "env.json")
_OUTPUTS = ("study.toml", "runs.csv", "laws/*.json", "report/index.html", "report/results.json")


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The content of conclusion.json."""

    inputs: str
    """Fingerprint of all that table, laws and report are made from: settings, version, and the records of the runs."""
    outputs: Mapping[str, str]
    """File that was made, relative to the study's folder -> SHA-256."""
    num_runs: int
    problems: tuple[str, ...]
    """Laws that could not be fitted, one line each."""
    predictions: tuple[str, ...]
    """How far predictions and measurements are apart, one line per family and loss."""

    @classmethod
    def of(
        cls,
        config: StudyConfig,
        runs: Sequence[Job],
        *,
        num_runs: int,
        problems: Iterable[str],
        predictions: Iterable[str],
    ) -> Self:
        """Describe the files of a study as they are now."""
        return cls(
            inputs=_digest_inputs(config, runs),
            outputs=_digest_outputs(config.out),
            num_runs=num_runs,
            problems=tuple(problems),
            predictions=tuple(predictions),
        )

    def write(self, study_dir: Path) -> None:
        """Write conclusion.json."""
        write_record(study_dir / _NAME, to_dict(self))

    @classmethod
    def read(cls, config: StudyConfig, runs: Sequence[Job]) -> Self | None:
        """Read conclusion.json; None if there is none, or a file that it is about has changed."""
        try:
            kept = from_dict(cls, read_record(config.out / _NAME))
            is_current = kept.inputs == _digest_inputs(config, runs) and kept.outputs == _digest_outputs(config.out)
        except (OSError, ValueError):
            return None
        return kept if is_current else None


def _digest_inputs(config: StudyConfig, runs: Sequence[Job]) -> str:
    files = [config.out / job.folder / name for job in runs for name in _INPUTS]
    files.append(config.out / "prediction" / "predictions.json")
    digests = [file_sha256(path) if path.is_file() else "" for path in files]
    no_cluster = cast(StudyClusterConfig, ClusterConfig())  # as versions without a store wrote it
    settings = replace(config, out=Path(), cluster=no_cluster)
    return fingerprint(__version__, settings, [job.fingerprint for job in runs], digests)


def _digest_outputs(folder: Path) -> dict[str, str]:
    paths = sorted(path for pattern in _OUTPUTS for path in folder.glob(pattern))
    return {str(path.relative_to(folder)): file_sha256(path) for path in paths}
