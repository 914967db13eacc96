"""A published set of images with human texts, read in pieces, and its stamps."""

import json
from io import BytesIO
from pathlib import Path

from PIL import Image

from polyglance.data.benchmarks.docci import Docci
from polyglance.data.sources.captioned import CaptionedSource, pieces_of, read_source, stamp_of
from polyglance.data.sources.pieces import Piece
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
    return pieces_of(source, num_images=num_images, drops=Drops())


def test_pieces_are_the_whole_in_order(tmp_path: Path) -> None:
    source = write_docci(tmp_path)
    cut = pieces(source)
    assert len(cut) == -(-NUM_IMAGES // 9)
    assert len(pieces(source, 1)) <= 16
    found = [text.text for piece in cut for _, (text,) in read_source(source, piece, Drops())]
    assert found == [f"Text {number}." for number in range(NUM_IMAGES)]
    (whole,) = pieces(source, NUM_IMAGES)
    keys = [image.key for image, _ in read_source(source, whole, Drops())]
    assert keys == [image.key for piece in cut for image, _ in read_source(source, piece, Drops())]


def test_a_changed_text_or_image_changes_the_stamp_of_its_piece(tmp_path: Path) -> None:
    source = write_docci(tmp_path)
    before, whole = pieces(source), stamp_of(source)
    assert (pieces(source), stamp_of(source)) == (before, whole)

    write_docci(tmp_path, changed=12)
    after = pieces(source)
    assert stamp_of(source) != whole
    assert [old == new for old, new in zip(before, after, strict=True)] == [n != 1 for n in range(len(before))]

    picture = tmp_path / "docci/images/qual_dev_00030.jpg"
    picture.write_bytes(picture.read_bytes() + b"more")
    last = pieces(source)
    assert [old == new for old, new in zip(after, last, strict=True)] == [n != 3 for n in range(len(before))]
