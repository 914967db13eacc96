"""Texts that are named after their language beside images, the words engine, and images held out for their captions."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyglance.data.align import AlignConfig
from polyglance.data.annotate import AnnotateConfig
from polyglance.data.build.build import build
from polyglance.data.build.finish import OutputConfig
from polyglance.data.build.match import MatchConfig
from polyglance.data.build.parts import merge_drops
from polyglance.data.build.recipe import Recipe
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_records
from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.images import ImagesSource
from polyglance.engines import EngineConfig, open_embedder
from polyglance.engines.words import _direction
from polyglance.records import Drops

THINGS = ("a red bicycle leans against the wooden fence", "two horses drink water from a river", "the old clock tower")
UKRAINIAN = ("червоний велосипед стоїть біля паркану", "двоє коней п'ють воду з річки", "стара вежа з годинником")


def draw(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_texts_belong_to_the_image_and_language_of_their_name(tmp_path: Path) -> None:
    files = {
        "a.txt": "plain",
        "a.de.txt": "eins\n\nzwei\n",
        "a.pt-BR.txt": "um",
        "a.b.en.txt": "of a.b",  # not of a
        "sub/c.Ukrainian.txt": "три",
        "a.yo.txt": "kan",
        "a.zh-TW.txt": "一",
        "d.de.txt": "no image",
        "e.de.txt": "of e.de",  # not the German of e
    }
    for number, name in enumerate(("a.png", "a.b.png", "e.de.png", "e.png", "sub/c.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        draw(tmp_path / name, number)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    source, drops = ImagesSource(path=tmp_path, texts="captions", text_language="fr"), Drops()
    pieces = source.find_pieces(2, drops)
    found = {
        image.where: [(text.language, text.text) for text in image.texts]
        for piece in pieces
        for image in source.read_piece(piece, drops)
    }
    assert found == {
        "a.png": [("fr", "plain"), ("de", "eins"), ("de", "zwei"), ("pt", "um")],
        "a.b.png": [("en", "of a.b")],
        "e.de.png": [("fr", "of e.de")],
        "e.png": [],
        "sub/c.jpg": [("uk", "три")],
    }
    assert drops.counts == {"file: neither an image nor the text of one": 3}
    assert not any(image.texts for piece in pieces for image in ImagesSource(path=tmp_path).read_piece(piece, drops))


def test_a_changed_text_is_another_stamp(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    stamps = set()
    for text in (None, "eins", "eins zwei"):
        if text is not None:
            (tmp_path / "a.de.txt").write_text(text)
        (piece,) = ImagesSource(path=tmp_path).find_pieces(10, Drops())
        stamps.add(piece.stamp)
    assert len(stamps) == 3


def test_texts_are_as_near_as_the_words_that_they_share() -> None:
    engine = open_embedder(EngineConfig(kind="words"))
    same, other = "Two horses, drinking at a river.", "A photo of the clock on a tower"
    vectors = engine.embed_texts([THINGS[1], same, other, "", "the of a"])
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.5
    assert abs(vectors[0] @ vectors[2]) < 0.2
    assert abs(vectors[0] @ vectors[3]) < 0.2
    with pytest.raises(ValueError, match="reads no pixels: 1 images need captions"):
        engine.embed_images([b""])


def recipe(folder: Path, **output: object) -> Recipe:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(9):
        draw(photos / f"{number}.png", number)
        (photos / f"{number}.en.txt").write_text(f"The image shows {THINGS[number % 3]}.\n")
        if number < 2:
            (photos / f"{number}.uk.txt").write_text(f"На фото {UKRAINIAN[number % 3]}.\n", encoding="utf-8")
    lines = [f"Here is {one}.\tОсь {other}.\n" for one, other in zip(THINGS, UKRAINIAN, strict=True)]
    (folder / "en-uk.tsv").write_text("".join(lines), encoding="utf-8")
    return Recipe(
        out=folder / "out",
        images=(ImagesSource(path=photos, texts="captions"),),
        bitext=(BitextSource(path=folder / "en-uk.tsv", language="uk"),),
        match=MatchConfig(engine=EngineConfig(kind="words"), align=AlignConfig(top_n=1)),
        annotate=AnnotateConfig(captions=("en", "uk"), min_source_characters=0),
        output=OutputConfig(**output),  # type: ignore[arg-type]
    )


def test_images_get_the_sentence_about_them_and_described_ones_are_held_out(tmp_path: Path) -> None:
    build(recipe(tmp_path, captioned_in=("Ukrainian",)))
    held_out, train = (list(read_records(tmp_path / "out" / name)) for name in ("test", "train"))
    assert (len(held_out), len(train)) == (2, 7)
    assert all({str(text.cell) for text in one.annotations} >= {"caption-uk", "caption-en"} for one in held_out)
    for record in train:
        assert {str(text.cell) for text in record.annotations} == {"caption-en", "translation-uk"}
        english = next(text.text for text in record.annotations if text.task == "caption")
        (pair,) = (text for text in record.annotations if text.task == "translation")
        thing = next(thing for thing in THINGS if thing in english)
        assert pair.source == f"Here is {thing}."


def test_images_match_only_sentences_with_a_content_word_of_theirs(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    for number, text in enumerate(("It is what it is.", "Un perro corre.")):  # no content word, none in common
        (tmp_path / f"photos/{number}.en.txt").write_text(text)
    (tmp_path / "photos/2.en.txt").unlink()
    with (tmp_path / "en-uk.tsv").open("a", encoding="utf-8") as file:
        file.write("What is this?\tЩо це?\nThis is not it.\tЦе не воно.\n")
    built = build(made)
    records = list(read_records(tmp_path / "out" / "train"))
    pairs = [(one.key, text) for one in records for text in one.annotations if text.source is not None]
    assert len(pairs) == 6
    assert all(any(thing in text.source for thing in THINGS) for _, text in pairs if text.source)
    drops = {reason: count for step in built.steps for reason, count in merge_drops([step.drops])}
    assert drops["match: image without a content word in its English texts"] == 2
    assert drops["match: sentence without a content word"] == 2
    assert drops["uk: candidate that shares no content word with the image's texts"] == 3


def test_images_without_any_english_text_are_refused_by_the_words_engine(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    for path in (tmp_path / "photos").glob("*.en.txt"):
        path.write_text("This is it.")
    with pytest.raises(ValueError, match="none of the 9 images has an English text"):
        build(made)
    with pytest.raises(ValueError, match="compares English texts of the images, and they have none"):
        replace(made, images=(ImagesSource(path=tmp_path / "photos"),))


def test_directions_of_words_stay_and_need_bounded_memory() -> None:
    row = open_embedder(EngineConfig(kind="words")).embed_texts(["bicycle"])[0]
    places = np.flatnonzero(row)
    assert places.tolist() == [51, 77, 175, 248, 293, 331, 386, 478, 559, 617, 676, 724, 795, 861, 913, 996]
    assert np.sign(row[places]).tolist() == [-1, 1, 1, -1, -1, 1, 1, -1, -1, -1, 1, 1, -1, 1, -1, 1]
    assert _direction.cache_info().maxsize is not None


def test_captions_that_would_not_be_kept_cannot_hold_images_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"output.captioned_in has sw, which annotate.captions does not have"):
        recipe(tmp_path, captioned_in=("sw",))


def read_texts(
    folder: Path, texts: dict[str, str], **options: object
) -> tuple[dict[str, list[tuple[str, str]]], Drops]:
    """Write images and the texts beside them, and read them back as a build does."""
    for name in texts:
        image = folder / f"{name.partition('.')[0]}.png"
        if not image.exists():
            draw(image, sum(name.encode()))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    source, drops = ImagesSource(path=folder, texts="captions"), Drops()
    pieces = source.find_pieces(3, drops)
    images = [image for piece in pieces for image in source.read_piece(piece, drops)]
    return {image.where: [(text.language, text.text) for text in image.texts] for image in images}, drops


def test_a_text_that_cannot_be_used_is_counted_by_its_reason(tmp_path: Path) -> None:
    good = "A dog runs over the wet sand"
    bad = {
        "a.txt": ("null", "text: empty, written as nan, null or none"),
        "b.txt": ("<b>A dog</b> runs", "text: tags (HTML, or a model's)"),
        "c.de.txt": ("A dog \u202eruns", "text: characters that turn the order of others around"),
        "d.txt": ("IMG_1234.jpg", "text: "),
        "e.txt": ("12345", "text: "),
        "f.hi.txt": ("A dog runs over the wet sand of the beach", "text: "),
    }
    images, drops = read_texts(tmp_path, {**{name: text for name, (text, _) in bad.items()}, "g.txt": f" {good}\n"})
    assert images == {**{f"{name[0]}.png": [] for name in bad}, "g.png": [("en", good)]}
    assert sum(drops.counts.values()) == len(bad)
    places = {places[0][0]: reason for reason, places in drops.examples.items()}
    for name, (_, reason) in bad.items():
        assert any(found.startswith(reason) for found in drops.counts), (name, places)


def test_texts_that_read_as_another_language_are_refused(tmp_path: Path) -> None:
    things = ("dog", "horse", "woman", "child", "boat", "train")
    english = [f"A {one} stands in front of the old house and looks at the people on the street" for one in things]
    with pytest.raises(ValueError, match=r"^[^\n]*said to be in hi read as en; [^\n]*$"):
        read_texts(tmp_path, {f"p{number}.hi.txt": text for number, text in enumerate(english)})


def test_texts_of_a_tar_are_checked_too(tmp_path: Path) -> None:
    names = {"a": "null", "b": "A dog runs over the wet sand"}
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for number, (name, text) in enumerate(names.items()):
            draw(tmp_path / f"{name}.png", number)
            (tmp_path / f"{name}.txt").write_text(text)
            tar.add(tmp_path / f"{name}.png", f"{name}.png")
            tar.add(tmp_path / f"{name}.txt", f"{name}.txt")
    source, drops = ImagesSource(path=tmp_path / "0.tar", texts="captions"), Drops()
    (piece,) = source.find_pieces(10, drops)
    assert [[text.text for text in image.texts] for image in source.read_piece(piece, drops)] == [[], [names["b"]]]
    assert drops.counts == {"text: empty, written as nan, null or none": 1}


def test_captions_in_languages_that_are_not_kept_are_counted(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    (made.images[0].path / "3.de.txt").write_text("Zwei Pferde trinken Wasser aus einem Fluss")
    result = build(made)
    reason = "text: de: caption in a language that annotate.captions does not name"
    assert result.steps[-1].drops[reason]["count"] == 1
    assert result.steps[-1].num_out == 9
    assert read_manifest(tmp_path / "out" / "train").drops[reason]["count"] == 1


def test_a_build_that_holds_out_every_image_is_refused(tmp_path: Path) -> None:
    made = recipe(tmp_path, captioned_in=("uk",))
    for number in range(9):
        (made.images[0].path / f"{number}.uk.txt").write_text(f"На фото {UKRAINIAN[number % 3]}.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^[^\n]*not a single image is left for training: all are held out[^\n]*$"):
        build(made)
