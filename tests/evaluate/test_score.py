"""The scorer against published values, and what it promises about files, signatures and statistics."""

import json
import math
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.score import ScoreConfig, score_files, score_texts
from polyglance.evaluate.score_report import ScoreReport, read_scores, select_segments, write_scores
from polyglance.files import DIGESTS_NAME

COCO = {
    "CIDEr": 0.5997905185184199,
    "Bleu_1": 0.5793995754573356,
    "Bleu_2": 0.40439129741018104,
    "Bleu_3": 0.2785363856619147,
    "Bleu_4": 0.1908290437674253,
    "ROUGE_L": 0.39625269357570847,
}
"""Scores of coco-caption's example by pycocoevalcap."""


@pytest.fixture(scope="module")
def fakecap(shared: Path) -> tuple[Path, Path]:
    """Predictions and references of coco-caption's example."""
    folder = shared / "data/eval/coco_fakecap"
    return folder / "en_captions_val2014_fakecap_results.json", folder / "en_captions_val2014.json"


def scored(hypotheses: Path, references: Path, **options: Any) -> ScoreReport:
    chosen = {"lang": "en", "metrics": ("cider", "bleu", "rouge"), "protocol": ("coco",), "bootstrap": 0}
    return score_files(hypotheses, [references], ScoreConfig(**{**chosen, **options}))


def values(report: ScoreReport, protocol: str = "coco") -> dict[str, float]:
    return report.as_dict()["scores"][protocol]


@pytest.fixture(scope="module")
def report(fakecap: tuple[Path, Path]) -> ScoreReport:
    return scored(*fakecap)


def small() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return made-up predictions and references of 40 segments."""
    words = ["a", "man", "dog", "red", "bike", "on", "the", "street", "with", "two", "small", "cats", "near", "tree"]
    rng = random.Random(1)
    references = {str(i): [" ".join(rng.choices(words, k=9)) for _ in range(3)] for i in range(40)}
    hypotheses = {
        name: " ".join([*texts[0].split()[:5], *rng.choices(words, k=3)]) for name, texts in references.items()
    }
    return hypotheses, references


def test_published_values(report: ScoreReport) -> None:
    assert values(report) == pytest.approx(COCO, rel=0, abs=1e-9)
    assert report.warnings == ()


def test_line_breaks_in_predictions_change_nothing_but_those_captions(
    fakecap: tuple[Path, Path], report: ScoreReport, tmp_path: Path
) -> None:
    """U+2028, CR, FF and VT, planted where words are apart, at ends, and as captions of their own."""
    rows = json.loads(fakecap[0].read_text())
    for place, row in enumerate(rows[::100]):
        row["caption"] = row["caption"].replace(" ", "\u2028\r\f\v"[place % 4], 2)
    rows[7]["caption"] += "\u2028"
    planted = tmp_path / "planted.json"
    planted.write_text(json.dumps(rows))
    result = scored(planted, fakecap[1])
    assert values(result) == pytest.approx(COCO, rel=0, abs=1e-9)
    assert "11 texts hold line-break characters" in result.warnings[0]

    rows[3]["caption"] = "\u2028"  # empties this caption and no other
    planted.write_text(json.dumps(rows))
    changed = per_image(scored(planted, fakecap[1])) != per_image(report)
    assert list(changed.nonzero()[0]) == [report.ids.index(rows[3]["image_id"])]


def per_image(report: ScoreReport) -> Any:
    return report.measurements[0].statistics.values[:, 0]


def test_per_image_values(report: ScoreReport, shared: Path) -> None:
    import gzip

    published = shared / "data/eval/ptb/cider_per_image_fakecap_en.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(published.read_bytes()).decode().splitlines()]
    result = dict(zip(report.ids, per_image(report), strict=True))
    assert {row["image_id"]: row["cider"] for row in rows} == pytest.approx(result, rel=0, abs=1e-9)


def test_signatures_say_what_moves_the_number(report: ScoreReport) -> None:
    first = report.scores[0].signature
    assert re.fullmatch(
        r"CIDEr\|proto:coco\|tok:ptb-corenlp-3\.4\.1\|lang:en\|df:references\|imgs:1000\|refs:5\.005\|case:lower\|"
        r"scale:0-10\|.*data:[0-9a-f]{8}\|version:[0-9.]+",
        first,
    )
    assert report.scores[1].signature.startswith("Bleu_1|proto:coco|")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"protocols": ("paligemma-xm3600",)}, "scale:0-1000"),
        ({"df": "all"}, "df:all/40/"),
        ({"bootstrap": 20}, "boot:20,seed:0"),
        ({"missing": "drop"}, "missing:drop"),
        ({"df_resampled": True, "bootstrap": 20}, "df_resampled:yes"),
        ({"language": "de"}, "lang:de"),
    ],
)
def test_settings_are_in_the_signature(options: dict[str, Any], part: str) -> None:
    hypotheses, references = small()
    chosen: dict[str, Any] = {"language": "en", "metrics": ("cider",), "bootstrap": 0, **options}
    report = score_texts(hypotheses, references, **chosen)
    plain = score_texts(hypotheses, references, language="en", metrics=("cider",), bootstrap=0)
    assert part in report.scores[0].signature
    assert part not in plain.scores[0].signature


def test_the_data_hash_changes_with_any_reference_and_not_with_predictions_or_order() -> None:
    hypotheses, references = small()

    def data(hypotheses: dict[str, str], references: dict[str, list[str]]) -> str:
        report = score_texts(hypotheses, references, language="en", metrics=("bleu",), bootstrap=0)
        result = re.search("data:([0-9a-f]+)", report.scores[0].signature)
        assert result
        return result[1]

    before = data(hypotheses, references)
    assert data(dict.fromkeys(hypotheses, "other"), dict(reversed(references.items()))) == before
    references["7"][1] += "."
    assert data(hypotheses, references) != before


def test_protocols_side_by_side_and_their_scales() -> None:
    hypotheses, references = small()
    names = ("coco", "paligemma-xm3600", "characters")
    report = score_texts(hypotheses, references, language="en", protocols=names, bootstrap=50)
    result = report.as_dict()["scores"]
    assert tuple(result) == names
    assert result["paligemma-xm3600"]["CIDEr"] == pytest.approx(100 * result["coco"]["CIDEr"])
    low, high = next(one.interval for one in report.scores if one.protocol == "paligemma-xm3600" and one.interval)
    assert low < result["paligemma-xm3600"]["CIDEr"] < high


def test_the_default_is_coco_or_characters() -> None:
    english = score_texts(*small(), language="en", bootstrap=0)
    assert {one.protocol for one in english.scores} == {"coco"}
    chinese = score_texts(
        {"1": "一个人站在Wii前,", "2": "两只猫"},
        {"1": ["一个人站在 Wii 前。"], "2": ["两只狗"]},
        language="zh",
        bootstrap=0,
    )
    result = chinese.as_dict()["scores"]["characters"]
    assert result["Bleu_1"] == pytest.approx(11 / 12)  # nine of nine, W, i and i apart, and two of three
    assert not any("means little" in warning for warning in chinese.warnings)


def test_translations_are_scored_in_the_language_s_own_way() -> None:
    """The values are sacrebleu's, and need no protocol."""
    import sacrebleu

    hypotheses, references = small()
    report = score_texts(hypotheses, references, language="de", metrics=("sacrebleu", "chrf", "chrf++"), bootstrap=0)
    streams = [list(stream) for stream in zip(*references.values(), strict=True)]
    result = values(report, "raw")
    assert result["BLEU"] == pytest.approx(sacrebleu.corpus_bleu(list(hypotheses.values()), streams).score)
    assert result["chrF"] == pytest.approx(sacrebleu.corpus_chrf(list(hypotheses.values()), streams).score)
    assert "chrF++" in result
    assert "|proto:raw|tok:13a|lang:de|" in report.scores[0].signature
    assert "scale:0-100" in report.scores[0].signature
    chinese = score_texts({"1": "一个人"}, {"1": ["一个人"]}, language="zh", metrics=("sacrebleu",), bootstrap=0)
    assert "tok:zh" in chinese.scores[0].signature
    forced = score_texts(
        {"1": "คน"}, {"1": ["คน"]}, language="th", metrics=("sacrebleu",), sacrebleu_tokenize="13a", bootstrap=0
    )
    assert "means little in Thai" in forced.warnings[0]


def test_document_frequencies_of_all_references(fakecap: tuple[Path, Path], tmp_path: Path) -> None:
    """A part of the set scored with the whole's document frequencies has the whole's values for its images."""
    whole = scored(*fakecap, metrics=("cider",))
    ids = tmp_path / "ids.txt"
    chosen = [str(name) for name in whole.ids[::-10]]
    ids.write_text("\n".join(chosen))
    part = scored(*fakecap, metrics=("cider",), ids=ids, df="all")
    assert part.ids == whole.ids[::-10]
    assert per_image(part) == pytest.approx(per_image(whole)[::-10], rel=0, abs=1e-9)
    subset = scored(*fakecap, metrics=("cider",), ids=ids)
    assert "100 scored of 1,000 images" in subset.warnings[0]
    assert values(subset) != values(part)
    kept = select_segments(whole, chosen, Resampling(num_samples=0))
    assert values(kept) == pytest.approx(values(part))
    assert "imgs:100/1000" in kept.scores[0].signature


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    hypotheses, references = small()
    metrics = ("cider", "bleu", "rouge", "sacrebleu", "chrf++")
    report = score_texts(hypotheses, references, language="en", metrics=metrics, bootstrap=50)
    path = write_scores(report, tmp_path / "out")
    read = read_scores(path)
    assert read.scores == report.scores
    assert read.warnings == report.warnings
    assert select_segments(read, None, Resampling(num_samples=50)).scores == report.scores
    written = json.loads(path.read_text())
    assert written["scores"] == report.as_dict()["scores"]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [DIGESTS_NAME, "scores.json", "scores.npz"]


def test_damaged_scores_are_one_line(tmp_path: Path) -> None:
    path = write_scores(score_texts(*small(), language="en", bootstrap=0), tmp_path)
    good = path.read_text()
    (tmp_path / DIGESTS_NAME).unlink()  # as older versions have written them
    for content, message in (
        (good[:100], "not valid JSON"),
        ("{}", "not a file of scores"),
        (good.replace('"details"', '"detail"'), "no list 'details'"),
        (good.replace('"measurements"', '"measured"'), "damaged file of scores"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_scores(path)
    path.write_text(good)
    (tmp_path / "scores.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="statistics of scores that cannot be read"):
        read_scores(path)
    with pytest.raises(ValueError, match="no such file"):
        read_scores(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("cidr",)}, "unknown metric 'cidr': did you mean 'cider'"),
        ({"metrics": ()}, "nothing to measure"),
        ({"language": "englsh"}, "did you mean 'en'"),
        ({"protocols": ("coca",)}, "unknown protocol 'coca': did you mean 'coco'"),
        ({"metrics": ("external",)}, "needs the command"),
        ({"metrics": ("meteor",)}, "needs Java and METEOR's jar"),
        ({"bootstrap": -1}, "bootstrap is -1"),
        ({"benchmark": "coco"}, "there is no benchmark 'coco'"),
        ({"df": "absent.json"}, r"absent\.json: no such file"),
        ({"protocols": ("jieba",)}, "protocol 'jieba' is for zh"),
    ],
)
def test_wrong_settings_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        score_texts(*small(), **{"language": "en", "bootstrap": 0, **options})
    assert "\n" not in str(caught.value)


WILD = st.text(st.characters(exclude_categories=[]), max_size=12)  # halves of surrogate pairs among them


@settings(max_examples=25)
@given(
    references=st.dictionaries(WILD, st.lists(WILD, min_size=1, max_size=3), min_size=2, max_size=4),
    texts=st.lists(WILD, min_size=4, max_size=4),
)
def test_wild_texts_are_scored(references: dict[str, list[str]], texts: list[str]) -> None:
    report = score_texts(
        dict(zip(references, texts, strict=False)),
        references,
        language="th",
        metrics=("cider", "bleu", "rouge", "chrf"),
        protocols=("coco", "characters", "whitespace"),
        bootstrap=20,
    )
    assert all(math.isfinite(one.value) and one.value >= 0 for one in report.scores)
    json.dumps(report.as_dict()).encode()


def test_off_target_rate() -> None:
    hypotheses = {
        "1": "Ein Mann steht vor einem großen Gebäude.",
        "2": "A man stands in front of a large building.",
        "3": "Zwei Hunde spielen auf der Wiese.",
        "4": "",
    }
    references = {name: ["Ein Mann steht vor einem großen Haus."] for name in hypotheses}
    references["2"] = ["Un homme se tient devant un grand bâtiment.", "Ein Mann vor einem großen Haus."]
    report = score_texts(hypotheses, references, language="de", metrics=("language",), bootstrap=0)
    expected = {"off_target": 0.5, "off_target_references": 0.125, "unclear_language": 0.0}
    assert values(report, "raw") == {**expected, "close_language": 0.0, "close_language_references": 0.0}
    assert report.measurements[0].statistics.values[:, 0].tolist() == [0, 1, 0, 1]
    empty = score_texts({"1": ""}, {"1": ["نص"]}, language="ar", metrics=("language",), bootstrap=0)
    assert values(empty, "raw")["off_target"] == 1.0
    danish = {"1": "En hvid kat sover på sofaen ved siden af vinduet", "2": "2024"}
    norwegian = {name: ["En hvit katt sover på sofaen ved siden av vinduet"] for name in danish}
    found = values(score_texts(danish, norwegian, language="no", metrics=("language",), bootstrap=0), "raw")
    assert (found["off_target"], found["close_language"], found["unclear_language"]) == (0, 0.5, 0.5)
    assert found["off_target_references"] == found["close_language_references"] == 0


LENGTHS = """
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    assert set(row) == {"id", "src", "mt", "refs"}
    print(ANSWER)
"""


@pytest.mark.parametrize("answer", ['len(row["mt"].split()) / 8', 'json.dumps({"id": row["id"], "score": 1.0})'])
def test_an_external_command(answer: str, tmp_path: Path) -> None:
    script = tmp_path / "metric.py"
    script.write_text(LENGTHS.replace("ANSWER", answer))
    hypotheses, references = small()
    report = score_texts(
        hypotheses,
        references,
        language="de",
        metrics=("external",),
        external=f"{sys.executable} {script} --gpus 0",
        external_name="COMET",
        sources=dict.fromkeys(hypotheses, "a source"),
        bootstrap=20,
    )
    assert values(report, "raw") == {"COMET": 1.0}
    assert "command:python metric.py --gpus 0" in re.sub(r"python[0-9.]*", "python", report.scores[0].signature)
    written = read_scores(write_scores(report, tmp_path / "out"))
    assert written.scores == report.scores


def test_an_external_command_may_answer_in_any_order(tmp_path: Path) -> None:
    script = tmp_path / "metric.py"
    script.write_text(
        "import json, sys\n"
        "for row in reversed([json.loads(line) for line in sys.stdin]):\n"
        "    print(json.dumps({'id': row['id'], 'score': int(row['id'])}))\n"
    )
    report = score_texts(*small(), language="de", metrics=("external",), external=f"{sys.executable} {script}")
    assert report.measurements[0].statistics.values[:, 0].tolist() == [float(name) for name in report.ids]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print(1)", "wrote 1 lines for 40 segments"),
        ("import sys; [print('x') for _ in sys.stdin]", "line 1 of the command's output is not a number: 'x'"),
        ("import sys; [print('NaN') for _ in sys.stdin]", "is not a number: 'NaN'"),
        ('import sys; [print(\'{"id": "9", "score": 1}\') for _ in sys.stdin]', "gave no score for 39 segments"),
        ("import sys; sys.exit('no GPU')", "ended with exit code 1: no GPU"),
    ],
)
def test_an_external_command_that_fails(script: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "metric.py"
    path.write_text(script)
    with pytest.raises(ValueError, match=message) as caught:
        score_texts(*small(), language="de", metrics=("external",), external=f"{sys.executable} {path}")
    assert "\n" not in str(caught.value)


def test_an_external_command_that_is_not_there() -> None:
    for command in ("no-such-program", "unclosed 'quote"):
        with pytest.raises(ValueError, match="cannot be run"):
            score_texts(*small(), language="de", metrics=("external",), external=command)
