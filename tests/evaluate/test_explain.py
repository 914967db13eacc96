"""Explained segments: effects are what scoring without the segment gives, tokens and matches are the metric's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyglance.cli import main
from polyglance.evaluate.explain import Explanation, explain
from polyglance.evaluate.score import score_texts
from polyglance.evaluate.score_report import ScoreReport, read_scores, write_scores
from polyglance.evaluate.systems import compare_reports
from polyglance.report.explanation import write_explanations

REFERENCES = {
    "1": ["a dog runs on the grass", "the dog is on the grass"],
    "2": ["two red cats sleep <b>here</b>", "cats & cats"],
    "3": ["this is plan B.", "plan B"],
    "4": ["The man sits.", "a man sits on a chair"],
    "5": ["un chien dort", "le chien dort là"],
}
GOOD = {name: texts[0] for name, texts in REFERENCES.items()}
POOR = {**GOOD, "2": "cats cats cats the", "4": "a woman", "3": "plan B."}


def scored(texts: dict[str, str], references: Any = REFERENCES, metrics: tuple[str, ...] = ("bleu",)) -> ScoreReport:
    return score_texts(texts, references, language="en", metrics=metrics, bootstrap=0)


def explained(*texts: dict[str, str], metric: str = "bleu", **options: Any) -> Explanation:
    reports = [scored(one, metrics=(metric,)) for one in texts]
    names = ["first", "second"][: len(texts)]
    return explain(*reports, **{"num_segments": 10, "names": names, **options})


@pytest.mark.parametrize("metric", ["bleu", "sacrebleu", "chrf", "rouge"])
def test_an_effect_is_what_the_score_loses_without_the_segment(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # PTB would look into the text that follows, and another one does without the segment.
    monkeypatch.setitem(REFERENCES, "3", ["this is plan C", "plan D"])
    monkeypatch.setitem(GOOD, "3", "this is plan C")
    monkeypatch.setitem(POOR, "3", "plan C")
    one, both = explained(POOR, metric=metric), explained(GOOD, POOR, metric=metric)
    for explanation, systems in ((one, [POOR]), (both, [GOOD, POOR])):
        assert len(explanation.segments) == len(REFERENCES)
        for segment in explanation.segments:
            values = []
            for texts in systems:
                rest = {name: text for name, text in texts.items() if name != segment.id}
                report = scored(rest, {name: REFERENCES[name] for name in rest}, (metric,))
                values.append({score.name: score.value for score in report.scores}[explanation.score])
            others = values[0] if len(values) == 1 else values[1] - values[0]
            assert segment.effect == pytest.approx(explanation.value - others, abs=1e-9)
    sizes = [abs(segment.effect) for segment in both.segments]
    assert sizes == sorted(sizes, reverse=True)


def test_matches_are_clipped_and_tokens_are_the_metric_s() -> None:
    segments = {segment.id: segment.texts for segment in explained(POOR).segments}
    poor = segments["2"][0]
    assert poor.tokens == ("cats", "cats", "cats", "the")
    assert poor.orders == (1, 1, 0, 0)
    assert poor.matches == ("cats",)
    # PTB reads `B.` as the end of a sentence before a text that begins with `The`.
    assert segments["3"][1].tokens == ("this", "is", "plan", "b.")
    assert segments["3"][2].tokens == ("plan", "b")
    first = segments["1"][0]
    assert first.matches == ("a dog runs on", "dog runs on the", "runs on the grass")
    assert first.orders == (4,) * 6


def test_characters_are_the_tokens_of_chrf() -> None:
    explanation = explained({**GOOD, "5": "chie"}, metric="chrf")
    (text,) = [segment.texts[0] for segment in explanation.segments if segment.id == "5"]
    assert text.tokens == tuple("chie")
    assert text.matches == ("chie",)
    assert explanation.separator == ""


def test_systems_in_other_orders_are_explained_by_their_own_texts() -> None:
    reports = [scored(GOOD), scored(POOR, dict(reversed(REFERENCES.items())))]
    explanation = explain(*reports, num_segments=5, names=["a", "b"])
    for segment in explanation.segments:
        assert " ".join(segment.texts[1].tokens) == " ".join(POOR[str(segment.id)].lower().rstrip(".").split()) or (
            segment.id in ("2", "3", "5")
        )


def test_scores_in_files_cannot_be_explained(tmp_path: Path) -> None:
    report = read_scores(write_scores(scored(GOOD), tmp_path))
    with pytest.raises(ValueError, match="which scores in files do not hold"):
        explain(report, num_segments=1, names=["a"])


def test_the_page_escapes_what_users_wrote(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    write_explanations([explain(scored(GOOD), scored(POOR), num_segments=5, names=["a", name])], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, texts in (("good", GOOD), ("poor", POOR), ("refs", REFERENCES)):
        (tmp_path / f"{name}.json").write_text(json.dumps(texts))
    hyps = [str(tmp_path / f"{name}.json") for name in ("good", "poor")]
    common = ["--refs", str(tmp_path / "refs.json"), "--lang", "en", "--metrics", "bleu,chrf", "--bootstrap", "20"]
    page = tmp_path / "page.html"
    main(["score", "--hyps", *hyps, *common, "--explain", "2", "--explain-score", "chrF", "--explain-page", str(page)])
    out = capsys.readouterr().out
    assert "chrF (raw), poor minus good = -" in out
    assert "the 2 segments that move it most" in out
    assert page.is_file()
    main(["score", "--hyps", hyps[0], *common, "--explain", "2", "--json"])
    (one,) = json.loads(capsys.readouterr().out)["explanations"]
    assert (one["score"], len(one["segments"])) == ("Bleu_4", 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explain-score", "CIDEr"], "--explain-score has no effect without --explain"),
        (["--explain-page", "x.html"], "--explain-page has no effect without --explain"),
        (["--explain", "-1"], "expected a number of segments"),
        (["--explain", "2", "--explain-page", "x.json"], "x.json: expected a file name that ends in .html"),
        (["--explain", "2", "--format", "csv"], "--explain has no effect with --format csv"),
        (["--explain", "2", "--explain-score", "Bleu_5"], "did you mean 'Bleu_4'"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    (tmp_path / "refs.json").write_text(json.dumps(REFERENCES))
    with pytest.raises(SystemExit):
        main(
            [
                "score",
                "--hyps",
                str(tmp_path / "a.json"),
                "--refs",
                str(tmp_path / "refs.json"),
                "--lang",
                "en",
                *options,
            ]
        )
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_names_of_systems_do_not_hide_the_baseline() -> None:
    table = compare_reports({"a": scored(GOOD), "b": scored(POOR)}, baseline="b")
    assert table.comparisons[0].system_a == "b"
