"""A published set of images with human texts, read in pieces, and its stamps."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from polyglance.data.benchmarks.docci import Docci
from polyglance.data.sources.captioned import CaptionedSource
from polyglance.data.sources.images import GivenText, clean_given_texts
from polyglance.data.sources.source import Piece
from polyglance.records import Drops

NUM_IMAGES = Docci().num_examples("qual_dev", "en")


def write_docci(root: Path, *, changed: int | None = None) -> CaptionedSource:
    (root / "docci/images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(NUM_IMAGES):
        name = f"qual_dev_{number:05d}"
        path = root / f"docci/images/{name}.jpg"
        if not path.exists():
            file = BytesIO()
            Image.new("RGB", (8, 8), (number, 0, 255 - number)).save(file, "JPEG")
            path.write_bytes(file.getvalue())
        text = f"Text {number}{' in other words' if number == changed else ''}."
        row = {"image_file": path.name, "description": text, "split": "qual_dev", "example_id": name}
        lines.append(json.dumps(row) + "\n")
    (root / "docci/docci_descriptions.jsonlines").write_text("".join(lines))
    return CaptionedSource(benchmark="docci", root=root, splits=("qual_dev",), style="paragraph")


def pieces(source: CaptionedSource, num_images: int = 9) -> list[Piece]:
    return source.find_pieces(num_images, Drops())


def test_pieces_are_the_whole_in_order(tmp_path: Path) -> None:
    source = write_docci(tmp_path)
    cut = pieces(source)
    assert len(cut) == -(-NUM_IMAGES // 9)
    assert len(pieces(source, 1)) <= 16
    found = [text.text for piece in cut for image in source.read_piece(piece, Drops()) for text in image.texts]
    assert found == [f"Text {number}." for number in range(NUM_IMAGES)]
    (whole,) = pieces(source, NUM_IMAGES)
    keys = [image.key for image in source.read_piece(whole, Drops())]
    assert keys == [image.key for piece in cut for image in source.read_piece(piece, Drops())]


def test_a_changed_text_or_image_changes_the_stamp_of_its_piece(tmp_path: Path) -> None:
    source = write_docci(tmp_path)
    before, whole = pieces(source), source.compute_stamp()
    assert (pieces(source), source.compute_stamp()) == (before, whole)

    write_docci(tmp_path, changed=12)
    after = pieces(source)
    assert source.compute_stamp() != whole
    assert [old == new for old, new in zip(before, after, strict=True)] == [n != 1 for n in range(len(before))]

    picture = tmp_path / "docci/images/qual_dev_00030.jpg"
    picture.write_bytes(picture.read_bytes() + b"more")
    last = pieces(source)
    assert [old == new for old, new in zip(after, last, strict=True)] == [n != 3 for n in range(len(before))]


def rewrite_descriptions(root: Path, texts: list[str]) -> None:
    path = root / "docci/docci_descriptions.jsonlines"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, text in zip(rows, texts, strict=False):
        row["description"] = text
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_texts_are_cleaned_as_those_of_other_sources(tmp_path: Path) -> None:
    source = write_docci(tmp_path)
    texts = [
        "A dog &amp; a cat.\nBoth run.",
        "<p>A dog</p>",
        "nan",
        "A dog\u202e runs",
        "\u0421\u043e\u0431\u0430\u043a\u0430 \u0431\u0435\u0436\u0438\u0442",
    ]
    rewrite_descriptions(tmp_path, texts)
    drops = Drops()
    images = [image for piece in pieces(source) for image in source.read_piece(piece, drops)]
    assert len(images) == NUM_IMAGES
    assert [text.text for image in images[:5] for text in image.texts] == ["A dog & a cat. Both run."]
    assert dict(drops) == {
        "text: characters that turn the order of others around": 1,
        "text: empty, written as nan, null or none": 1,
        "text: in another script than en": 1,
        "text: tags (HTML, or a model's)": 1,
    }


def test_texts_in_another_language_are_refused(tmp_path: Path) -> None:
    source = write_docci(tmp_path)
    rewrite_descriptions(
        tmp_path, [f"Ein Hund l\u00e4uft durch den Park Nummer {number}." for number in range(NUM_IMAGES)]
    )
    with pytest.raises(ValueError, match=r"docci: the texts that are said to be in en read as de; correct languages"):
        pieces(source)


def test_a_translation_goes_with_its_source() -> None:
    given = GivenText(language="de", text="Ein Hund", source="<b>A dog</b>")
    drops = Drops()
    assert clean_given_texts([given], "a.png", drops) == ()
    assert dict(drops) == {"text: tags (HTML, or a model's)": 1}
    assert drops.examples["text: tags (HTML, or a model's)"] == ["a.png: de: '<b>A dog</b>'"]
    whole = GivenText(language="de", text=" Ein Hund ", source="A\tdog")
    assert clean_given_texts([whole, whole], "a.png", drops) == (
        GivenText(language="de", text="Ein Hund", source="A dog"),
    )
