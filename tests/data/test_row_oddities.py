"""What programs, systems and downloads leave in tables and folders: read as it is meant, counted, or refused."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_cases import CSV, DE, EN, ENGLISH, PICTURES, THREE, Cases, beside, coco, lines, pictures, tar, write

from polyglance.data.cleaning import without_invisible
from polyglance.data.columns import find_placeholder

CASES = Cases()
case = CASES.add
_OF_SYSTEM = "a file that macOS or Windows left there"


def table(
    tmp: Path, text: str, name: str = "t.csv", images: Path | None = None, columns: tuple[str, ...] = ()
) -> dict[str, object]:
    return {"table": write(tmp / name, text), "images": images or pictures(tmp / "i"), "columns": columns}


def english(*texts: str) -> str:
    """A CSV of three images, of which the first ones have other texts."""
    cells = [*texts, *EN[len(texts) :]]
    return "image,en\n" + "".join(f'{n}.png,"{cell.replace(chr(34), 2 * chr(34))}"\n' for n, cell in enumerate(cells))


@case(THREE)
def an_index_of_pandas(tmp: Path) -> dict[str, object]:
    rows = CSV.splitlines()
    return table(tmp, "\n".join([f",{rows[0]}", *(f"{n},{row}" for n, row in enumerate(rows[1:]))]) + "\n")


@case(THREE)
def the_line_by_which_excel_knows_the_delimiter(tmp: Path) -> dict[str, object]:
    return table(tmp, "sep=;\n" + CSV.replace(",", ";"))


@case(THREE)
def the_line_of_excel_above_commas(tmp: Path) -> dict[str, object]:
    return table(tmp, "SEP=,\r\n" + CSV.replace("\n", "\r\n"))


@case(THREE, {"no such image": 1})
def files_with_marks_put_together(tmp: Path) -> dict[str, object]:
    rows = CSV.splitlines()
    return table(tmp, "".join(f"\ufeff{row}\n" for row in (*rows[:2], rows[0], *rows[2:])))


@case(ENGLISH)
def json_lines_with_marks(tmp: Path) -> dict[str, object]:
    rows = [lines({"image": f"{n}.png", "en": EN[n]}) for n in range(3)]
    return table(tmp, "".join(f"\ufeff{row}" for row in rows), "t.jsonl")


@case(ENGLISH)
def invisible_characters_in_words(tmp: Path) -> dict[str, object]:
    return table(
        tmp,
        english("a d\u200bog\u2060 ru\u00adns on grass\u200b", "\u200ea cat sleeps\u200f here", "two birds \ufeffsing"),
    )


@case({"0.png": {"fa": ["سگ می\u200cدود و می\u200cخوابد"]}, "1.png": {"th": ["หมา\u200bวิ่งบนหญ้า"]}})
def invisible_characters_that_stand_for_something(tmp: Path) -> dict[str, object]:
    rows = [{"image": "0.png", "fa": "سگ می\u200cدود و می\u200cخوابد"}, {"image": "1.png", "th": "หมา\u200bวิ่งบนหญ้า"}]
    return table(tmp, lines(*rows), "t.jsonl")


@case(
    {name: ENGLISH[name] for name in ("1.png", "2.png")},
    {"no text": 1, "text: characters that turn the order of others around": 1},
)
def a_text_that_is_shown_backwards(tmp: Path) -> dict[str, object]:
    return table(tmp, english("\u202eessarg no snur god a\u202c"))


@case({**ENGLISH, "0.png": {"en": ['a dog & a "cat" café']}})
def entities_of_html(tmp: Path) -> dict[str, object]:
    return table(tmp, english("a dog &amp; a &quot;cat&#34; caf&eacute;"))


@case({"2.png": ENGLISH["2.png"]}, {"no text": 2, "text: tags (HTML, or a model's)": 2})
def tags(tmp: Path) -> dict[str, object]:
    return table(tmp, english("a <b>dog</b> runs", "<image> a cat sleeps here</s>"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("IMG_1234.jpg", "the name of a file"),
        ("holiday photo 12.JPEG", "the name of a file"),
        ("DSC_0042", "the name of a file"),
        ("image", "a word that stands for no text (image, untitled)"),
        ("[deleted]", "a word that stands for no text (image, untitled)"),
        ("#REF!", "empty, written as nan, null or none"),
        ("None", "empty, written as nan, null or none"),
        ("0.5 0.2 1", "no letter in it"),
        ("???", "no letter in it"),
        ("https://example.org/a", "an address"),
        ("b'a dog runs'", "an object of a program, written as text"),
        ("{'score': 0.5, 'labels': ['dog']}", "an object of a program, written as text"),
        ("a dog runs.\\nIt barks.", "escapes of a program, written out (\\n, \\u00e9)"),
        ("a caf\\u00e9 in town", "escapes of a program, written out (\\n, \\u00e9)"),
        ("A dog runs. ||| A brown dog.", "several texts in one (|||)"),
        ("a dog\\non the grass", "escapes of a program, written out (\\n, \\u00e9)"),
        ("['It's a dog', 'two cats']", "an object of a program, written as text"),
        ("['It''s']", "an object of a program, written as text"),
        ("a%20dog%20runs", "encoded as an address (%20)"),
        ("A dog runs.<|endoftext|>", "tags (HTML, or a model's)"),
        (r"a \"big\" dog", "escapes of a program, written out (\\n, \\u00e9)"),
        ('="a dog runs"', "a formula of a spreadsheet"),
        ("NA", "empty, written as nan, null or none"),
        ("\\N", "empty, written as nan, null or none"),
        ("a cat sl@@ eeps here", "marks of subwords (@@, ▁, ##, Ġ)"),
        ("▁a ▁cat ▁sleeps", "marks of subwords (@@, ▁, ##, Ġ)"),
        ("a Ġcat Ġsleeps", "marks of subwords (@@, ▁, ##, Ġ)"),
        ("a cat sleep ##s", "marks of subwords (@@, ▁, ##, Ġ)"),
        ("a_dog_runs", "words joined by _ or +"),
        ("two+birds+sing,+too.", "words joined by _ or +"),
        ("RuntimeError: CUDA out of memory", "the message of an error"),
        ("Traceback (most recent call last):", "the message of an error"),
        ("Error code: 429 - too many requests", "the message of an error"),
    ],
)
def test_what_stands_in_for_a_text_is_counted(tmp_path: Path, text: str, reason: str) -> None:
    cases = Cases()
    kept = {name: ENGLISH[name] for name in ("1.png", "2.png")}
    cases.add(kept, {"no text": 1, f"text: {reason}": 1})(lambda tmp: table(tmp, english(text)))
    cases.check("<lambda>", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("100 % cotton", "AT&T tower", "a < b", "a 7up", "Mr. Smith (left)", "C:\\new", "It's b'day", "{sic} a dog"),
        *("the file logo.png", "A man holds a sign that reads holiday.jpg", "y = \\tan x", "an angle \\theta"),
        *("the folder C:\\new pictures", "see \\\\host\\name of it", "<<Bonjour>> dit il", "if x<y and y>z"),
        *(
            "C# and F## notes",
            "a traffic_light",
            "black+white",
            "the errors: two of them",
            "Terror: a film",
            "Error codes on the screen of a cash machine",
            "Error code red: a film poster",
            "a@b.de @@",
        ),
        *("b'day cake for a boy's party", "b'day cake for a boy's party'", "the gradient \\nabla f"),
    ],
)
def test_a_text_that_looks_a_little_like_it_is_kept(tmp_path: Path, text: str) -> None:
    cases = Cases()
    cases.add({**ENGLISH, "0.png": {"en": [text]}})(lambda tmp: table(tmp, english(text)))
    cases.check("<lambda>", tmp_path)


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        ("es", "Todo", ""),
        ("nl", "nat", ""),
        ("es", "TODO", "a word that stands for no text (image, untitled)"),
        ("en", "todo", "a word that stands for no text (image, untitled)"),
        ("cs", "na", ""),
        ("pt", "Na", ""),
        ("cs", "NA", "empty, written as nan, null or none"),
        ("nl", "NaT", "empty, written as nan, null or none"),
        ("de", "nan", "empty, written as nan, null or none"),
        ("de", "Null", ""),
        ("en", "Nan", ""),
        ("de", "null", "empty, written as nan, null or none"),
        ("en", "NaN", "empty, written as nan, null or none"),
        ("de", "NULL", "empty, written as nan, null or none"),
        ("de", "None", "empty, written as nan, null or none"),
    ],
)
def test_words_of_a_language_stand_for_nothing_only_as_programs_write_them(code: str, text: str, reason: str) -> None:
    assert find_placeholder(text, code) == reason


@case(ENGLISH)
def objects_of_python_in_cells(tmp: Path) -> dict[str, object]:
    return table(tmp, english(*(str({"raw": text, "sentid": n}) for n, text in enumerate(EN))))


@case(ENGLISH)
def lists_of_objects_in_cells(tmp: Path) -> dict[str, object]:
    return table(tmp, english(*(json.dumps([{"caption": text, "id": n}]) for n, text in enumerate(EN))))


@case(THREE)
def texts_by_language_in_cells(tmp: Path) -> dict[str, object]:
    cells = [json.dumps({"en": EN[n], "de": DE[n]}, ensure_ascii=False).replace('"', '""') for n in range(3)]
    return table(tmp, "image,caption\n" + "".join(f'{n}.png,"{cell}"\n' for n, cell in enumerate(cells)))


@case(THREE)
def lists_of_objects_that_name_their_language(tmp: Path) -> dict[str, object]:
    several = [[{"language": "eng", "text": EN[n]}, {"language": "de-DE", "text": DE[n]}] for n in range(3)]
    cells = [json.dumps(it, ensure_ascii=False).replace('"', '""') for it in several]
    return table(tmp, "image,captions\n" + "".join(f'{n}.png,"{cell}"\n' for n, cell in enumerate(cells)))


@case(THREE)
def lists_of_objects_that_name_their_language_in_json(tmp: Path) -> dict[str, object]:
    rows = [
        {"image": f"{n}.png", "captions": [{"lang": "en", "caption": EN[n]}, {"lang": "de", "caption": DE[n]}]}
        for n in range(3)
    ]
    return table(tmp, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl")


@case("none holds texts: write them to a column named after their language")
def conversations_of_a_model(tmp: Path) -> dict[str, object]:
    rows = [{"image": f"{n}.png", "conversations": [{"from": "gpt", "value": EN[n]}]} for n in range(3)]
    return table(tmp, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl")


@case("set encoding to the codec of the texts")
def a_table_in_an_encoding_that_is_not_named(tmp: Path) -> dict[str, object]:
    file = tmp / "t.csv"
    file.write_bytes("image,ko\n0.png,\uac1c\uac00 \ub2ec\ub9b0\ub2e4\n".encode("euc-kr"))
    return {"table": file, "images": pictures(tmp / "i")}


_LONG_DE = [
    "Ein Hund rennt schnell über das grüne Gras im Park.",
    "Zwei Männer sitzen am Abend auf einer Bank aus Holz.",
    "Ein rotes Auto steht seit gestern auf der Straße.",
    "Das Kind isst am Tisch zusammen mit der Mutter einen Apfel.",
    "Die Katze schläft auf dem warmen Dach neben dem Schornstein.",
    "Einige Vögel fliegen weit draußen über das blaue Meer.",
]


@case("said to be in en read as de")
def rows_that_name_another_language(tmp: Path) -> dict[str, object]:
    names = [f"{n}.png" for n in range(6)]
    rows = "".join(f"{n}.png,en,{text}\n" for n, text in enumerate(_LONG_DE))
    return table(tmp, f"image,lang,text\n{rows}", images=pictures(tmp / "i", *names))


@case("said to be in en read as de")
def objects_that_name_another_language(tmp: Path) -> dict[str, object]:
    names = [f"{n}.png" for n in range(6)]
    rows = [{"image": name, "texts": {"en": text}} for name, text in zip(names, _LONG_DE, strict=True)]
    return table(tmp, lines(*rows), "t.jsonl", images=pictures(tmp / "i", *names))


@case(ENGLISH)
def coco_ids_as_texts_and_as_numbers(tmp: Path) -> dict[str, object]:
    images = [{"id": str(10 + n), "file_name": f"{n}.png"} for n in range(3)]
    return table(tmp, json.dumps(coco(images=images)), "c.json", columns=("caption=en",))


@case(ENGLISH)
def coco_images_that_are_listed_twice(tmp: Path) -> dict[str, object]:
    images = [{"id": 10 + n, "file_name": f"{n}.png", "split": split} for n in range(3) for split in ("a", "b")]
    return table(tmp, json.dumps(coco(images=images)), "c.json", columns=("caption=en",))


@case("no image_id of its annotations")
def coco_annotations_of_another_set(tmp: Path) -> dict[str, object]:
    images = [{"id": 20 + n, "file_name": f"{n}.png"} for n in range(3)]
    return table(tmp, json.dumps(coco(images=images)), "c.json", columns=("caption=en",))


@case("rename it to .jsonl")
def json_lines_under_another_name(tmp: Path) -> dict[str, object]:
    return table(tmp, lines(*({"image": f"{n}.png", "en": EN[n]} for n in range(3))), "t.json")


@case("rename it to .json")
def a_list_under_the_name_of_lines(tmp: Path) -> dict[str, object]:
    return table(tmp, json.dumps([{"image": f"{n}.png", "en": EN[n]} for n in range(3)], indent=1), "t.jsonl")


@case("a page of HTML")
def a_page_in_place_of_a_table(tmp: Path) -> dict[str, object]:
    return table(tmp, "<!DOCTYPE html>\n<html><body>Sign in</body></html>\n")


@case("git lfs pull")
def a_pointer_in_place_of_a_table(tmp: Path) -> dict[str, object]:
    return table(tmp, "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "t.jsonl")


@case({"2.png": ENGLISH["2.png"]}, {"image: not an image": 2})
def pages_and_pointers_in_place_of_images(tmp: Path) -> dict[str, object]:
    images = pictures(tmp / "i")
    write(images / "0.png", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    write(images / "1.png", "<html><body>403</body></html>")
    return table(tmp, english(), images=images)


@case({f"i\\{name}": texts for name, texts in ENGLISH.items()})
def paths_of_windows(tmp: Path) -> dict[str, object]:
    pictures(tmp / "i")
    return table(tmp, "image,en\n" + "".join(f"i\\{n}.png,{EN[n]}\n" for n in range(3)), images=tmp)


@case(r"there is 0\.PNG")
def other_capitals(tmp: Path) -> dict[str, object]:
    return table(tmp, english(), images=pictures(tmp / "i", "0.PNG", "1.PNG", "2.PNG"))


@case(r"there is 0\.png")
def names_without_extension(tmp: Path) -> dict[str, object]:
    return table(tmp, english().replace(".png", ""))


@case(r"there is a 0\.png")
def names_with_the_escapes_of_addresses(tmp: Path) -> dict[str, object]:
    images = pictures(tmp / "i", "a 0.png", "a 1.png", "a 2.png")
    return table(tmp, "image,en\n" + "".join(f"a%20{n}.png,{EN[n]}\n" for n in range(3)), images=images)


@case("an image written as base64")
def images_in_base64(tmp: Path) -> dict[str, object]:
    rows = [{"image": base64.b64encode(PICTURES[n]).decode(), "en": EN[n]} for n in range(3)]
    return table(tmp, lines(*rows), "t.jsonl")


@case(ENGLISH)
def columns_of_large_strings_and_dictionaries(tmp: Path) -> dict[str, object]:
    columns = {"image": pa.array([f"{n}.png" for n in range(3)], pa.large_string())}
    pq.write_table(pa.table({**columns, "en": pa.array(EN).dictionary_encode()}), tmp / "t.parquet")
    return {"table": tmp / "t.parquet", "images": pictures(tmp / "i")}


@case(THREE, {_OF_SYSTEM: 3})
def a_tar_from_a_mac(tmp: Path) -> dict[str, object]:
    extra: list[tuple[str, str | bytes]] = [
        ("__MACOSX/0.png", b"x"),
        ("__MACOSX/0.en.txt", "junk"),
        ("Thumbs.db", b"x"),
    ]
    return {"images": tar(tmp / "a.tar", [it for n in range(3) for it in beside(n)] + extra)}


@case(THREE, {_OF_SYSTEM: 4})
def a_folder_from_a_mac(tmp: Path) -> dict[str, object]:
    for name, content in [it for n in range(3) for it in beside(n)]:
        write(tmp / "d" / name, content)
    for name in ("._0.png", "._0.en.txt", ".DS_Store", "__MACOSX/0.png"):
        write(tmp / "d" / name, PICTURES[5])
    return {"images": tmp / "d"}


@case(THREE)
def a_tar_with_names_in_two_ways(tmp: Path) -> dict[str, object]:
    members = [it for n in range(3) for it in beside(n)]
    return {
        "images": tar(tmp / "a.tar", [(f"./{name}" if n % 2 else name, it) for n, (name, it) in enumerate(members)])
    }


@case({f"{n}.png": {"en": [EN[n]], "de": [DE[n]]} for n in range(3)})
def entities_that_were_escaped_twice(tmp: Path) -> dict[str, object]:
    escaped = [text.replace("ä", "&amp;auml;").replace("ö", "&amp;amp;ouml;") for text in DE]
    return table(tmp, "image,en,de\n" + "".join(f"{n}.png,{EN[n]},{escaped[n]}\n" for n in range(3)))


@case({f"{n}.png": {"en": [EN[n]]} for n in range(3)})
def blanks_around_the_names_of_files(tmp: Path) -> dict[str, object]:
    return table(tmp, "image,en\n" + "".join(f" {n}.png  ,{EN[n]}\n" for n in range(3)))


@pytest.mark.parametrize("name", CASES)
def test_an_oddity_is_read_as_it_is_meant_or_counted_or_refused(tmp_path: Path, name: str) -> None:
    CASES.check(name, tmp_path)


@pytest.mark.parametrize(
    ("script", "text", "cleaned"),
    [
        ("Thaa", "\u078b\u200f \u078b", None),  # Thaana and N'Ko are written from right to left
        ("Nkoo", "\u07d3\u200e1", None),
        ("Java", "\ua98f\u200b\ua98f", None),  # Javanese has no spaces
        ("Latn", "the word \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),  # Persian inside English
        ("Latn", "a\u200cb \u200d\u200ec\u200bd", "ab cd"),
        ("Thai", "\u0e01\u200b\u0e02\u200d", None),
    ],
)
def test_only_what_a_script_does_without_is_removed(
    monkeypatch: pytest.MonkeyPatch, script: str, text: str, cleaned: str | None
) -> None:
    monkeypatch.setattr("polyglance.data.cleaning.get_language", lambda code: SimpleNamespace(script=script))
    assert without_invisible(text, "own") == (text if cleaned is None else cleaned)
