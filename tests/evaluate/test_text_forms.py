"""Files in the forms that people have: each is read as what it is, or refused in one line; none is scored as it stands.

The files of `scoring_cases` and their right values were computed with pycocoevalcap and sacrebleu.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyglance.data.texts.text_files import ReadOptions, read_texts
from polyglance.evaluate.score import ScoreConfig, score_files
from polyglance.evaluate.score_report import ScoreReport
from polyglance.settings import UnusedSettingError

CASES = Path(__file__).parent / "scoring_cases"
TWO_REFERENCES = {"CIDEr": 3.4343, "Bleu_1": 1.0, "Bleu_4": 0.5007}
ONE_REFERENCE = {"CIDEr": 4.2294, "Bleu_1": 0.6643, "Bleu_4": 0.3297}
TEXTS = {"7.jpg": ["a cat"], "9.jpg": ["ein Hund", "noch ein Hund"], "11.jpg": ["une, oie"]}
REFERENCES = ReadOptions(role="references", language="en")


def scored(hyps: Path, *refs: Path, **options: Any) -> ScoreReport:
    return score_files(hyps, refs, ScoreConfig(**{"lang": "en", "bootstrap": 0, **options}))


def check(report: ScoreReport, right: dict[str, float], digits: int = 4) -> None:
    values = {one.name: round(one.value, digits) for one in report.scores}
    assert {name: values[name] for name in right} == right


@pytest.mark.parametrize(
    ("hyps", "refs", "right"),
    [
        ("list-in-string.hyp.jsonl", "list-in-string.refs.jsonl", TWO_REFERENCES),
        ("id-text.hyp.tsv", "id-text.refs.tsv", ONE_REFERENCE),
        ("columns.hyp.csv", "columns.refs.csv", TWO_REFERENCES),
        ("pycoco.hyp.json", "karpathy.refs.json", TWO_REFERENCES),
        ("list-in-string.hyp.jsonl", "karpathy.refs.json", TWO_REFERENCES),
        ("pycoco.hyp.json", "xm3600.refs.jsonl", TWO_REFERENCES),
        ("pycoco.hyp.json", "pycoco.refs.json", TWO_REFERENCES),
        ("annotations.hyp.json", "annotations.refs.json", TWO_REFERENCES),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_right_values(hyps: str, refs: str, right: dict[str, float], zipped: bool, tmp_path: Path) -> None:
    paths = [CASES / hyps, CASES / refs]
    if zipped:
        for number, path in enumerate(paths):
            paths[number] = tmp_path / f"{path.name}.gz"
            paths[number].write_bytes(gzip.compress(path.read_bytes()))
    report = scored(*paths)
    check(report, right)
    assert len(report.ids) == 6


def test_rows_with_ids_may_come_in_any_order(tmp_path: Path) -> None:
    rows = (CASES / "id-text.hyp.tsv").read_text().splitlines()
    random.Random(3).shuffle(rows)
    hyps = tmp_path / "shuffled.txt"
    hyps.write_text("\n".join(rows) + "\n")
    check(scored(hyps, CASES / "id-text.refs.tsv"), ONE_REFERENCE)


def test_markup_is_parsed(tmp_path: Path) -> None:
    right = {"BLEU": 32.13, "chrF": 56.34}
    options = {"metrics": ("sacrebleu", "chrf")}
    report = scored(CASES / "wmt.hyp.sgm", CASES / "wmt.refs.sgm", **options)
    check(report, right, 2)
    assert len(report.ids) == 6
    lines = [texts[0] for texts in read_texts(CASES / "wmt.hyp.sgm").by_id().values()]
    plain, fairseq, xml = (tmp_path / name for name in ("hyps.en", "generate.out", "hyps.xml"))
    plain.write_text("\n".join(lines) + "\n")
    check(scored(plain, CASES / "wmt.refs.sgm", **options), right, 2)
    shuffled = [f"H-{place}\t-0.5\t{text}\nS-{place}\tein Satz" for place, text in enumerate(lines)]
    fairseq.write_text("\n".join(reversed(shuffled)) + "\n")
    check(scored(fairseq, CASES / "wmt.refs.sgm", **options), right, 2)
    segments = "".join(f'<seg id="{number}">{text}</seg>' for number, text in enumerate(lines, 1))
    xml.write_text(
        f'<?xml version="1.0" encoding="utf-8"?><dataset><doc id="d"><hyp system="x">{segments}</hyp></doc></dataset>'
    )
    check(scored(xml, CASES / "wmt.refs.sgm", **options), right, 2)


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_forms(folder: Path) -> dict[str, Path]:
    """Write `TEXTS` in every form."""
    rows = [(name, text) for name, texts in TEXTS.items() for text in texts]
    padded = [(name, *texts, *[""] * (2 - len(texts))) for name, texts in TEXTS.items()]
    forms: dict[str, Any] = {
        "repeated.tsv": "image\tcaption\n" + "".join(f"{name}\t{text}\n" for name, text in rows),
        "headless.txt": "".join(f"{name}\t{text}\n" for name, text in rows),
        "flickr.token": "".join(f"{name}#{number}\t{text}\n" for number, (name, text) in enumerate(rows)),
        "columns.csv": "file_name,split,ref1,ref2\n" + "".join(f'{a},test,"{b}","{c}"\n' for a, b, c in padded),
        "semicolon.csv": "file_name;caption_0;caption_1\n" + "".join(f"{a};{b};{c}\n" for a, b, c in padded),
        "wrapped.json": {"info": {}, "predictions": [{"question_id": name, "answer": text} for name, text in rows]},
        "array.jsonl": [{"img": name, "captions": texts} for name, texts in TEXTS.items()],
        "lines.txt": "".join(
            json.dumps({"filename": name, "sentences": texts}) + "\n" for name, texts in TEXTS.items()
        ),
        "numpy.jsonl": "".join(
            json.dumps({"id": name, "text": "[" + "\n ".join(map(repr, texts)) + "]"}) + "\n"
            for name, texts in TEXTS.items()
        ),
        "columns.json": {"file_name": [name for name, _ in rows], "caption": [text for _, text in rows]},
        "gts.json": {
            name: [{"image_id": 1, "id": 2, "caption": text} for text in texts] for name, texts in TEXTS.items()
        },
        "split.json": {
            "images": [
                {
                    "split": split,
                    "filename": name,
                    "imgid": 4,
                    "sentences": [{"raw": f"{text} ", "tokens": []} for text in texts],
                }
                for split, all_texts in (("train", {"3.jpg": ["no"]}), ("test", TEXTS))
                for name, texts in all_texts.items()
            ]
        },
        "xm.jsonl": "".join(
            json.dumps({"image/key": name, "en": {"caption": texts}, "de": {"caption": ["nein"]}}) + "\n"
            for name, texts in TEXTS.items()
        ),
    }
    paths = {name: write(folder, name, content) for name, content in forms.items()}
    table = pa.table(
        {
            "image": list(TEXTS),
            "bytes": [b"\xff"] * len(TEXTS),
            "captions": pa.array(TEXTS.values(), pa.list_(pa.string())),
        }
    )
    pq.write_table(table, folder / "table.parquet")
    (folder / "hub/data").mkdir(parents=True)
    pq.write_table(table, folder / "hub/data/test-00000-of-00001.parquet")
    (folder / "saved").mkdir()
    with (
        pa.OSFile(str(folder / "saved/data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    return paths | {name: folder / name for name in ("table.parquet", "hub", "saved")}


def test_all_forms_hold_the_same_texts(tmp_path: Path) -> None:
    for name, path in write_forms(tmp_path).items():
        assert read_texts(path, options=REFERENCES).by_id() == TEXTS, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1\ta dog\nno tab\n3\ta cat\n", "looks like a table of 2 columns between tabs, but line 2 has 1"),
        ("a.txt", "a_1.jpg a dog\nb_2.jpg a cat\nc_3.jpg a cow\n", "begins with what looks like an id"),
        ("a.txt", "1: a dog\n2: a cat\n3: a cow\n", "begins with what looks like an id"),
        ("a.txt", "0 ||| a dog\n1 ||| a cat\n2 ||| a cow\n", r"between \|\|\|"),
        ("a.txt", '  <seg id="1">a\n', r"a segment that does not end"),
        ("a.txt", "{'id': 1, 'text': 'a dog'}\n", "lines look like objects of Python"),
        ("a.xml", "<a><b></a>", "markup without segments"),
        ("a.sgm", '<srcset><doc docid="1"><seg id="1">a</seg></doc></srcset>', "holds source texts"),
        ("a.csv", "id,text\n1,a dog, a cat\n", r"a\.csv:2: 3 cells, the first row has 2"),
        ("a.csv", "id,foo,bar\n1,a,b\n", "no column has the name of a text; found: id, foo, bar; name it with --text"),
        ("a.tsv", "a\tb\nc\td\n", "a table without a header whose columns are not clear"),
        ("a.jsonl", '{"id": 1, "text": "[\'a\', \'b\']"}\n{"id": 2, "text": "x"}\n', "1 of 2 texts are lists written"),
        ("a.json", {"images": [{"split": "val", "sentences": []}, {"split": "train", "sentences": []}]}, "--split"),
    ],
)
def test_what_is_not_clear_is_refused(name: str, content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as caught:
        read_texts(path)
    assert "\n" not in str(caught.value)


def test_one_table_with_both(tmp_path: Path) -> None:
    table = write(tmp_path, "both.csv", "id,reference,prediction\n1,a red dog,a red dog\n2,a cat,a dog\n3,one,two\n")
    told = scored(table, table, metrics=("bleu",))
    named = scored(table, table, metrics=("bleu",), text_column=("prediction",), refs_text_column=("reference",))
    assert told.scores == named.scores
    assert "texts from the column 'prediction'" in told.warnings[0]
    swapped = scored(table, table, metrics=("bleu",), text_column=("reference",), refs_text_column=("prediction",))
    assert swapped.scores != told.scores
    with pytest.raises(ValueError, match=r"--text-column foo: the files have no such column; .*'prediction'"):
        scored(table, table, text_column=("foo",))
    with pytest.raises(UnusedSettingError, match="`split` has no effect on these files"):
        scored(table, table, split="test")


def test_lines_are_scored_as_they_stand_where_the_user_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "years.txt", "1990 a dog\n1991 a cat\n1992 a cow\n")
    with pytest.raises(ValueError, match="--as-lines"):
        scored(path, path)
    assert scored(path, path, as_lines=True, metrics=("bleu",)).scores[0].value == pytest.approx(1)


def test_ids_are_matched_in_other_spellings(tmp_path: Path) -> None:
    refs = write(tmp_path, "refs.json", {"101": ["a"], "102": ["b"], "103": ["c"]})
    names = [f"val2014/COCO_val2014_{number:012}.jpg" for number in (101, 102, 103)]
    hyps = write(tmp_path, "hyps.json", dict(zip(names, "abc", strict=True)))
    report = scored(hyps, refs, metrics=("bleu",))
    assert report.scores[0].value == pytest.approx(1)
    assert "the files have no id in common as written; matched" in report.warnings[0]
    images = [{"id": number, "file_name": f"{name}.png"} for number, name in ((5, "x"), (6, "y"), (7, "z"))]
    captions = [{"image_id": number, "id": 1, "caption": text} for number, text in ((5, "a"), (6, "b"), (7, "c"))]
    refs = write(tmp_path, "coco.json", {"images": images, "annotations": captions})
    hyps = write(tmp_path, "names.json", {"x": "a", "y": "b", "z": "c"})
    assert scored(hyps, refs, metrics=("bleu",)).scores[0].value == pytest.approx(1)


def test_a_blank_line_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 3 of .*shifted\.refs\.txt is blank") as caught:
        scored(CASES / "shifted.hyp.txt", CASES / "shifted.refs.txt")
    assert "--missing" not in str(caught.value)


@pytest.mark.parametrize("df", ["all", "references"])
def test_cider_of_one_image_has_no_number(df: str) -> None:
    with pytest.raises(ValueError, match="CIDEr of one image is 0 whatever the texts are"):
        scored(CASES / "one-image.hyp.json", CASES / "one-image.refs.json", df=df)


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("names", [["17", "4", "9"], ["0", "1", "2"]])
def test_titles_and_names_of_rows_move_no_text(tmp_path, delimiter, names):
    path = tmp_path / "t.csv"
    rows = [["id", "caption"], *([name, f"i{i}", f"a dog {i}"] for i, name in enumerate(names))]
    path.write_text("\n".join(["Captions of 2024", *map(delimiter.join, rows)]) + "\n")
    assert read_texts(path).by_id() == {f"i{i}": [f"a dog {i}"] for i in range(3)}
    path.write_text(f"{delimiter}english caption\n0{delimiter}image\n1{delimiter}a dog\n")
    assert read_texts(path).by_id() == {"0": ["image"], "1": ["a dog"]}


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        (['"id","caption","note"', '"1",7,"a cat",', '"2",9,"a dog",'], {"7": ["a cat"], "9": ["a dog"]}),  # R
        (["id,caption", "1,a cat,", "2,a dog,"], {"1": ["a cat"], "2": ["a dog"]}),  # delimiters at the ends
        (["id,length,caption", "1,7,a cat,", "2,9,a dog,"], {"1": ["a cat"], "2": ["a dog"]}),
        (["id,caption,", "1,a cat,0.1", "2,a dog,0.2"], {"1": ["a cat"], "2": ["a dog"]}),  # a column without a name
        (["image,caption", "1,cat.jpg,a cat", "2,dog.jpg,a dog"], {"cat.jpg": ["a cat"], "dog.jpg": ["a dog"]}),
    ],
)
def test_rows_of_one_cell_more_than_the_header_move_no_text(tmp_path, lines, texts):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    assert read_texts(path, options=ReadOptions()).by_id() == texts


def test_a_word_of_each_text_is_no_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("english caption\nA cat on a mat;indeed\nA dog in a park;indeed\n")
    read = read_texts(path, options=ReadOptions())
    assert [texts for _, texts in read.entries] == [("A cat on a mat;indeed",), ("A dog in a park;indeed",)]
