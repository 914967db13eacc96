"""Files as pandas, chat models, spreadsheets and multilingual sets write them hold the texts that were written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.texts.chat_answers import take_answer
from polyglance.data.texts.text_files import ReadOptions, read_texts
from polyglance.evaluate.score import ScoreConfig, score_files
from polyglance.json_frames import read_frame

TEXTS = {318219: "a dog runs, and barks", 391895: "two red buses", 554625: "a woman's cat", 184613: "the old man reads"}
ROWS = list(TEXTS.items())
ENGLISH = ReadOptions(role="references", language="en")
Row = Callable[[int, str], Any]


def write(path: Path, content: Any) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else (content.encode()))
    return path


def lines(make: Row) -> str:
    return "".join(f"{json.dumps(make(name, text))}\n" for name, text in ROWS)


def table(header: str, make: Callable[[int, str], str], rows: Sequence[tuple[int, str]] = ROWS) -> str:
    return header + "\n" + "".join(f"{make(name, text)}\n" for name, text in rows)


def quoted(text: str) -> str:
    return f'"{text}"'


def chat(answer: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}


FORMS: dict[str, Any] = {
    "split.json": json.dumps({"columns": ["image_id", "caption"], "index": [0, 1, 2, 3], "data": ROWS}),
    "table.json": json.dumps(
        {
            "schema": {"fields": [{"name": "index", "type": "integer"}], "primaryKey": ["index"]},
            "data": [{"index": i, "image_id": name, "caption": text} for i, (name, text) in enumerate(ROWS)],
        }
    ),
    "index.json": json.dumps({str(i): {"image_id": name, "caption": text} for i, (name, text) in enumerate(ROWS)}),
    "columns.json": json.dumps({"image_id": dict(enumerate(TEXTS)), "caption": dict(enumerate(TEXTS.values()))}),
    "ids are the index.json": json.dumps({name: {"caption": text, "score": 0.5} for name, text in ROWS}),
    "ids are the rows.json": json.dumps({"caption": TEXTS}),
    "pairs.json": json.dumps(ROWS),
    "pairs of files.json": json.dumps([[f"{name}.jpg", text] for name, text in ROWS]),
    "an object a line.jsonl": lines(lambda name, text: {str(name): text}),
    "facts beside.json": json.dumps({"model": "m", "seed": 1, "predictions": TEXTS}),
    "float ids.jsonl": lines(lambda name, text: {"image_id": float(name), "caption": text}),
    "an image inside.jsonl": lines(
        lambda name, text: {"image": {"id": name, "file_name": f"{name}.jpg"}, "caption": text}
    ),
    "openai.jsonl": lines(
        lambda name, text: {
            "id": f"batch_req_{name + 1}",
            "custom_id": str(name),
            "response": {"status_code": 200, "request_id": "x", "body": {"model": "m", **chat(text)}},
            "error": None,
        }
    ),
    "anthropic.jsonl": lines(
        lambda name, text: {
            "custom_id": str(name),
            "result": {
                "type": "succeeded",
                "message": {"role": "assistant", "content": [{"type": "text", "text": text[:5]}, {"text": text[5:]}]},
            },
        }
    ),
    "gemini.jsonl": lines(
        lambda name, text: {
            "key": str(name),
            "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]},
        }
    ),
    "vllm.jsonl": lines(
        lambda name, text: {"request_id": str(name), "prompt": "x", "outputs": [{"index": 0, "text": text}]}
    ),
    "messages.jsonl": lines(
        lambda name, text: {
            "id": name,
            "messages": [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe."}]},
                {"role": "assistant", "content": [{"type": "text", "text": text}]},
            ],
        }
    ),
    "llava.json": json.dumps(
        [
            {
                "id": str(name),
                "image": f"{name}.jpg",
                "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": text}],
            }
            for name, text in ROWS
        ]
    ),
    "excel.csv": table("sep=;\nimage_id;caption", lambda name, text: f"{name};{text}"),
    "comments.csv": table("# model: m\n# beam: 5\nimage_id,caption", lambda name, text: f"{name},{quoted(text)}"),
    "a commented header.csv": table("#image_id,caption", lambda name, text: f"{name},{quoted(text)}"),
    "title.csv": table("Results of May,\n,\nimage_id,caption", lambda name, text: f"{name},{quoted(text)}"),
    "commas at all ends.csv": table("image_id,caption,", lambda name, text: f"{name},{quoted(text)},"),
    "commas at the ends.csv": table("image_id,caption", lambda name, text: f"{name},{quoted(text)},"),
    "row names of R.csv": '"image_id","caption"\n'
    + "".join(f'"{i}",{name},"{text}"\n' for i, (name, text) in enumerate(ROWS, 1)),
    "model beside.csv": table("image_id,model,caption", lambda name, text: f"{name},blip2,{quoted(text)}"),
    "class beside.csv": table("image_id,label,caption,result", lambda name, text: f"{name},dog,{quoted(text)},ok"),
    "size beside.csv": table("image_id,original_size,caption", lambda name, text: f"{name},640x480,{quoted(text)}"),
}


@pytest.mark.parametrize("role", ["predictions", "references"])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_holds_the_texts_that_were_written(tmp_path: Path, name: str, role: Any) -> None:
    path = write(tmp_path / name, FORMS[name])
    found = read_texts(path, options=ReadOptions(role=role, language="en")).by_id()
    assert {key.removesuffix(".jpg"): list(texts) for key, texts in found.items()} == {
        str(key): [text] for key, text in ROWS
    }


@pytest.mark.parametrize("form", ["floats", "bytes", "images"])
def test_parquet_with_ids_of_other_types(tmp_path: Path, form: str) -> None:
    ids: dict[str, Any] = {
        "floats": pa.array([float(name) for name in TEXTS]),
        "bytes": pa.array([str(name).encode() for name in TEXTS]),
        "images": pa.array([{"bytes": b"x", "path": f"{name}.jpg"} for name in TEXTS]),
    }
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": ids[form], "caption": list(TEXTS.values())}), path)
    found = read_texts(path).by_id()
    assert [name.removesuffix(".jpg") for name in found] == [str(name) for name in TEXTS]


def in_two_languages(kind: str) -> str:
    german = "ein Hund läuft"
    if kind == "rows.jsonl":
        return lines(lambda name, text: {"image_id": name, "caption": text, "lang": "en-GB"}) + lines(
            lambda name, text: {"image_id": name, "caption": german, "lang": "de"}
        )
    if kind == "rows.csv":
        return table("image_id,language,caption", lambda name, text: f"{name},English,{quoted(text)}") + "".join(
            f"{name},German,{german}\n" for name in TEXTS
        )
    if kind == "coco.json":
        rows = [{"image_id": name, "caption": text, "language": "en"} for name, text in ROWS]
        rows += [{"image_id": name, "caption": german, "language": "de"} for name in TEXTS]
        return json.dumps({"images": [{"id": name} for name in TEXTS], "annotations": rows})
    if kind == "objects.jsonl":
        return lines(lambda name, text: {"image": name, "texts": {"en": [text], "de": german}})
    if kind == "lists.jsonl":
        return lines(
            lambda name, text: {
                "image": name,
                "captions": [{"lang": "de", "text": german}, {"lang": "en", "text": text}],
            }
        )
    if kind == "codes.csv":
        return table("image_id,de,en", lambda name, text: f"{name},{german},{quoted(text)}")
    return table("image_id,caption_de,caption_en", lambda name, text: f"{name},{german},{quoted(text)}")


KINDS = ["rows.jsonl", "rows.csv", "coco.json", "objects.jsonl", "lists.jsonl", "codes.csv", "captions.csv"]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_in_other_languages_are_no_references(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / kind, in_two_languages(kind))
    assert read_texts(path, options=ENGLISH).by_id() == {str(name): [text] for name, text in ROWS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_that_a_file_does_not_hold_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / kind, in_two_languages(kind))
    with pytest.raises(ValueError, match=r"--lang is fr|--text-column|no text in 'fr'") as caught:
        read_texts(path, options=ReadOptions(role="references", language="fr"))
    assert "\n" not in str(caught.value)


def test_a_label_of_one_other_language_is_said_and_no_reason_to_refuse(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table("id,lang,text", lambda name, text: f"{name},fr,{quoted(text)}"))
    found = read_texts(path, options=ENGLISH)
    assert len(found.entries) == len(ROWS)
    assert any("its lang is fr, --lang is en" in note for note in found.notes)


def test_a_text_with_a_comma_is_no_row_of_r(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n1,a dog, a cat\n2,a cow, a hen\n")
    with pytest.raises(ValueError, match=r"a\.csv:2: 3 cells, the first row has 2"):
        read_texts(path)


def test_portuguese_texts_and_files_of_torch_share_an_extension(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", "um cão corre\num gato dorme\n")
    assert [texts for _, texts in read_texts(path).entries] == [("um cão corre",), ("um gato dorme",)]
    for name in ("a.pt", "a.npy", "a.pkl"):
        with pytest.raises(ValueError, match=r"files of \.\w+ are not read; write JSON lines"):
            read_texts(write(tmp_path / name, b"\x80\x04\x95\0\0"))


def test_file_names_beside_another_id_match_too(tmp_path: Path) -> None:
    rows = [f"{i},{name}.jpg,{quoted(text)}" for i, (name, text) in enumerate(ROWS)]
    refs = write(tmp_path / "refs.csv", "img_id,filename,raw\n" + "\n".join(rows))
    hyps = write(tmp_path / "hyps.json", json.dumps(TEXTS))
    report = score_files(hyps, [refs], ScoreConfig(lang="en", metrics=("chrf",), bootstrap=0))
    assert report.scores[0].value == pytest.approx(100)


cells = st.one_of(st.integers(0, 99), st.text(alphabet="abc ,'", min_size=1, max_size=8))
records = st.lists(st.fixed_dictionaries({"id": st.integers(0, 10**6), "text": cells}), min_size=1, max_size=6)


@given(records, st.booleans())
def test_every_orient_of_a_frame_is_the_same_records(rows: list[dict[str, Any]], numbered: bool) -> None:
    labels = [str(i) if numbered else f"row {i}" for i in range(len(rows))]
    orients: dict[str, Any] = {
        "split": {"columns": ["id", "text"], "index": labels, "data": [[row["id"], row["text"]] for row in rows]},
        "table": {"schema": {}, "data": rows},
        "index": dict(zip(labels, rows, strict=True)),
        "columns": {key: dict(zip(labels, [row[key] for row in rows], strict=True)) for key in ("id", "text")},
        "lists": {key: [row[key] for row in rows] for key in ("id", "text")},
    }
    for orient, content in orients.items():
        found = read_frame(content, lambda key: key in ("id", "text"))
        assert found is not None, orient
        assert [record for _, record in found] == rows, orient


@given(st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3)))
def test_what_is_no_answer_stays_as_it_is(value: Any) -> None:
    assert take_answer(value) == value
    assert take_answer({"score": value}) == {"score": value}


def test_a_conversation_that_ends_with_a_question_has_no_answer() -> None:
    messages = [{"role": "assistant", "content": "a dog"}, {"role": "user", "content": "are you sure?"}]
    assert take_answer(messages) == messages


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_tables_one_behind_the_other_have_their_header_once(tmp_path: Path, suffix: str) -> None:
    rows = [f"{name}{{}}{text.replace(',', '')}" for name, text in ROWS]
    parts = [["image_id{}caption", *rows[:2]], ["image_id{}caption", *rows[2:]]]
    content = "".join(f"{line}\n" for part in parts for line in part).replace("{}", "," if suffix == "csv" else "\t")
    found = read_texts(write(tmp_path / f"a.{suffix}", content))
    assert found.by_id() == {str(name): [text.replace(",", "")] for name, text in ROWS}
    assert any("the header is repeated, and left out, in line 4" in note for note in found.notes)
    one_column = read_texts(write(tmp_path / "b.csv", "caption\na dog\ncaption\n"))  # may be a text
    assert [texts for _, texts in one_column.entries] == [("a dog",), ("caption",)]


def test_a_second_line_of_a_header_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "item,outputs\nimage_id,caption\n1,a dog\n2,a cat\n")
    with pytest.raises(ValueError, match=r"a\.csv:2: looks like a second line of the header \(image_id, caption\)"):
        read_texts(path)


def test_the_unnamed_index_of_a_frame_in_parquet_is_an_id(tmp_path: Path) -> None:
    index = [2, 0, 3, 1]
    names = pa.table({"caption": [ROWS[place][1] for place in index], "__index_level_0__": index})
    pq.write_table(names, tmp_path / "shuffled.parquet")
    pq.write_table(pa.table({"caption": [text for _, text in ROWS]}), tmp_path / "plain.parquet")
    config = ScoreConfig(lang="en", metrics=("chrf",), bootstrap=0)
    for hyps, refs in ("shuffled", "plain"), ("plain", "shuffled"):
        report = score_files(tmp_path / f"{hyps}.parquet", [tmp_path / f"{refs}.parquet"], config)
        assert report.scores[0].value == pytest.approx(100)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_marks_of_joined_files_are_in_no_text(tmp_path: Path, name: str) -> None:
    parts = [[(1, "a dog"), (2, "a cat")], [(3, "a cow")]]
    if name == "a.jsonl":
        files = ["".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in part) for part in parts]
    elif name == "a.txt":
        files = ["".join(f"{text}\n" for _, text in part) for part in parts]
    else:
        mark = "," if name == "a.csv" else "\t"
        files = [f"id{mark}text\n" + "".join(f"{i}{mark}{text}\n" for i, text in part) for part in parts]
    path = write(tmp_path / name, b"".join(file.encode("utf-8-sig") for file in files))
    assert read_texts(path).by_id() == {"1": ["a dog"], "2": ["a cat"], "3": ["a cow"]}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_lines_that_end_in_cr_alone_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="its lines end in CR alone, as on old Macs; save it with LF or CR LF"):
        read_texts(write(tmp_path / name, "id,text\r1,a dog\r2,a cat\r"))
