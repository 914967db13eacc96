"""METEOR: refused in one line where it cannot run; with a jar, the number that the jar itself reports."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from polyglance.evaluate.metrics import make_metric
from polyglance.evaluate.metrics.resampling import Resampling, bootstrap_intervals


def test_refused_without_jar_or_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="needs Java and METEOR's jar"):
        make_metric("meteor")
    with pytest.raises(ValueError, match="there is no jar at"):
        make_metric("meteor", jar=tmp_path / "meteor-1.5.jar")
    jar = tmp_path / "meteor-1.5.jar"
    jar.write_bytes(b"not a jar")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="'java' was not found"):
        make_metric("meteor", jar=jar)


@pytest.mark.skipif(not shutil.which("java"), reason="Java is not installed")
def test_a_jar_that_is_none(tmp_path: Path) -> None:
    jar = tmp_path / "meteor-1.5.jar"
    jar.write_bytes(b"not a jar")
    with pytest.raises(ValueError, match=r"gave 0 answers to 1 requests: .*jar"):
        make_metric("meteor", jar=jar).statistics(["a dog"], [["a dog"]])


@pytest.mark.slow
@pytest.mark.skipif("METEOR_JAR" not in os.environ, reason="set METEOR_JAR to the path of meteor-1.5.jar")
def test_scores_are_the_jars_own() -> None:
    jar = os.environ["METEOR_JAR"]
    hypotheses = ["a dog runs ||| fast\u2028", "", "two cats sleep here"]
    references = [["a dog is running", "the dog runs"], ["nothing"], ["two cats sleep", "cats sleeping"]]
    meteor = make_metric("meteor", jar=jar)
    statistics = meteor.statistics(hypotheses, references)
    score = meteor.scores(statistics.values.sum(axis=0), 3)["METEOR"]
    clean = ["a dog runs fast", *hypotheses[1:]]
    lines = [f"SCORE ||| {' ||| '.join(r)} ||| {h}" for h, r in zip(clean, references, strict=True)]
    command = ["java", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]

    def ask(requests: list[str]) -> list[str]:
        text = "".join(f"{request}\n" for request in requests)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.splitlines()

    *per_segment, total = map(float, ask([" ||| ".join(["EVAL", *ask(lines)])]))
    assert float(score) == total > 0
    assert meteor.scores(statistics.values, 1)["METEOR"].tolist() == per_segment
    low, high = bootstrap_intervals(meteor, statistics, Resampling(num_samples=20))["METEOR"]
    assert 0 <= low < total < high <= 1
