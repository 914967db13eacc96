"""Images of any kind become data URIs or a reason."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_study import TEXTS, grid, write_study

from polyglance.data.shard import ShardWriter
from polyglance.records import ImageRecord, annotations_from_texts
from polyglance.report.examples import MAX_SIDE_PX, CaptionLine, make_galleries, mark_words
from polyglance.report.folder import read_study
from polyglance.report.opening import make_opening


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def shown(folder: Path, content: bytes) -> tuple[str | None, bool, list[str]]:
    """Return the URI of a test image in a gallery, whether it is enlarged, and the notes."""
    write_study(folder, grid(seeds=1)[:1])
    with ShardWriter(folder / "data" / "test", source="", licence="", overwrite=True) as writer:
        writer.write(ImageRecord(key="test-00000", image=content, annotations=annotations_from_texts(TEXTS)))
    study, notes = read_study(folder), []
    (gallery,) = make_galleries(study, study.runs, notes)
    return gallery.examples[0].image_uri, gallery.examples[0].pixelated, notes


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_images_are_embedded_as_they_are(tmp_path: Path) -> None:
    content = encoded(Image.new("RGB", (32, 32), "red"), "PNG")
    uri, pixelated, notes = shown(tmp_path, content)
    assert uri == f"data:image/png;base64,{base64.b64encode(content).decode()}"
    assert pixelated
    assert notes == []


@pytest.mark.parametrize(
    ("mode", "kind", "expected"), [("RGB", "JPEG", "JPEG"), ("RGBA", "PNG", "PNG"), ("P", "PNG", "JPEG")]
)
def test_large_images_are_made_smaller(tmp_path: Path, mode: str, kind: str, expected: str) -> None:
    uri, pixelated, notes = shown(tmp_path, encoded(Image.new(mode, (1600, 800)), kind))
    image = decoded(uri)
    assert image.size == (MAX_SIDE_PX, MAX_SIDE_PX // 2)
    assert image.format == expected
    assert not pixelated
    assert notes == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged, or neither PNG nor JPEG"),
        (b"<svg onload=alert(1)>", "damaged, or neither PNG nor JPEG"),
        (encoded(Image.effect_noise((64, 64), 90), "PNG")[:-900], "damaged, or neither PNG nor JPEG"),
        (encoded(Image.new("1", (14_000, 14_000)), "PNG"), "too many pixels"),
    ],
    ids=["empty", "svg", "truncated", "bomb"],
)
def test_an_image_that_cannot_be_shown_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    uri, _, notes = shown(tmp_path, content)
    assert uri is None
    assert notes == [f"The image test-00000 cannot be shown: {reason}."]


@pytest.mark.parametrize(
    ("caption", "reference", "code", "expected"),
    [
        ("un petit cercle rouge.", "un grand cercle rouge.", "fr", "un[ petit] cercle rouge."),
        ("un cercle rouge", "un cercle rouge.", "fr", "un cercle rouge"),
        ("d'un carré", "d'une étoile", "fr", "d'[un carré]"),
        ("一个红色大圆形。", "一个蓝色大圆形。", "zh", "一个[红]色大圆形。"),
        ("", "a red circle", "en", ""),
        ("a  red\ncircle", "a red circle", "en", "a[  red\ncircle]"),
        ("x", "", "qq", "[x]"),
    ],
)
def test_wrong_words_are_marked_and_no_letter_is_lost(caption: str, reference: str, code: str, expected: str) -> None:
    pieces = mark_words(caption, reference, code)
    assert "".join(f"[{piece.text}]" if piece.is_wrong else piece.text for piece in pieces) == expected
    assert "".join(piece.text for piece in pieces) == caption


@given(st.text(), st.text(), st.sampled_from(["fr", "zh", "qq"]))
def test_any_text_stays_whole_when_it_is_marked(caption: str, reference: str, code: str) -> None:
    assert "".join(piece.text for piece in mark_words(caption, reference, code)) == caption
    assert not any(piece.is_wrong for piece in mark_words(caption, caption, code))


@pytest.mark.parametrize(
    ("captions", "chosen"),
    [
        (("", "un chat noir dort"), "un chat noir dort"),
        (("un", "un chat noir dort"), "un chat noir dort"),  # nothing in it is wrong, and nearly all is missing
        (("", "un"), None),
        (("un chat noir dort", "un chat blanc dort"), "un chat blanc dort"),
    ],
)
def test_what_is_missing_is_wrong_too(tmp_path: Path, captions: tuple[str, ...], chosen: str | None) -> None:
    """A page opens with a caption that is nearly right, not with an empty one."""
    write_study(tmp_path, grid(seeds=1)[:1])
    study = read_study(tmp_path)
    (gallery,) = make_galleries(study, study.runs, [])
    lines = tuple(
        CaptionLine(
            language="fr", plain="tout faux", prefix="Image :", continuation=text, reference="Image :un chat blanc dort"
        )
        for text in captions
    )
    examples = (replace(gallery.examples[0], image_uri="data:,", lines=lines),)
    opening = make_opening(study, "UC_prefix", [replace(gallery, examples=examples)])
    assert (None if opening.line is None else opening.line.continuation) == chosen
    assert [line.num_wrong > 0 for line in lines] == [text != "un chat blanc dort" for text in captions]
