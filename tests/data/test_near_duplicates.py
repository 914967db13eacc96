"""Near images are found, exactly; different ones are not; evaluation sets keep out."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from polyglance.data.near_duplicates import ImageHash, NearDuplicates, NearDuplicatesConfig, hash_image, write_hashes
from polyglance.records import Drops


def photograph(seed: int, side: int = 96) -> Image.Image:
    """Noise with the spectrum of natural images (amplitude 1 / frequency), in colour."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1 / side
    shared = rng.standard_normal((side, side))
    channels = [0.8 * shared + 0.6 * rng.standard_normal((side, side)) for _ in range(3)]
    pixels = np.stack([np.fft.ifft2(np.fft.fft2(channel) / frequency).real for channel in channels], axis=-1)
    pixels = (pixels - pixels.mean()) / pixels.std() * 50 + rng.integers(80, 176)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def changed(image: Image.Image) -> list[Image.Image]:
    file = BytesIO()
    image.save(file, "JPEG", quality=50)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    cropped = image.crop((1, 1, image.width - 1, image.height - 1))
    return [Image.open(file).convert("RGB"), half, cropped]


def test_changed_photographs_are_found_and_others_are_not() -> None:
    near = NearDuplicates()
    photographs = [photograph(seed) for seed in range(60)]
    assert [near.add(str(index), hash_image(image)) for index, image in enumerate(photographs)] == [None] * 60
    for index, image in enumerate(photographs):
        found = [near.add(f"changed {index}", hash_image(other)) for other in changed(image)]
        assert [one.key if one else None for one in found] == [str(index)] * 3
    assert len(near) == 60
    grey = photographs[0].convert("L").convert("RGB")  # the same bits, other colours
    assert hash_image(grey).bits == hash_image(photographs[0]).bits
    assert near.add("grey", hash_image(grey)) is None


hashes = st.integers(0, 2**64 - 1)
flips = st.sets(st.integers(0, 63), max_size=13)


@given(st.lists(hashes, min_size=1, max_size=6, unique=True), st.data(), st.integers(0, 11))
def test_search_by_bands_finds_what_comparing_all_finds(
    added: list[int], data: st.DataObject, max_distance: int
) -> None:
    near = NearDuplicates(NearDuplicatesConfig(max_distance=max_distance))
    kept: list[int] = []
    for start in added:
        for query in (start, start ^ sum(1 << bit for bit in data.draw(flips))):
            expected = min(((query ^ other).bit_count(), index) for index, other in enumerate([*kept, ~query % 2**64]))
            found = near.add(str(len(kept)), ImageHash(query, bytes(48)))
            if expected[0] <= max_distance:
                assert found == (str(expected[1]), "", expected[0])
            else:
                assert found is None
                kept.append(query)
    assert len(near) == len(kept)


@pytest.mark.parametrize("max_distance", range(12))
def test_differences_spread_over_all_bands_are_found(max_distance: int) -> None:
    near = NearDuplicates(NearDuplicatesConfig(max_distance=max_distance))
    near.add("a", ImageHash(2**63 + 12345, bytes(48)))
    spread = [16 * (number % 4) + 5 * (number // 4) for number in range(12)]  # as even as can be: the hardest case
    for num_flips in (max_distance, max_distance + 1):
        query = (2**63 + 12345) ^ sum(1 << bit for bit in spread[:num_flips])
        found = near.find(ImageHash(query, bytes(48)))
        assert found == (("a", "", num_flips) if num_flips <= max_distance else None)


def test_colours_tell_apart_what_the_hash_does_not() -> None:
    config = NearDuplicatesConfig(max_distance=0, max_colour_difference=2.0)
    near = NearDuplicates(config)
    assert near.add("a", ImageHash(5, bytes([100] * 48))) is None
    assert near.add("b", ImageHash(5, bytes([97] * 48))) is None
    assert near.add("c", ImageHash(5, bytes([98] * 48))) == ("a", "", 0)
    assert near.add("d", ImageHash(4, bytes([100] * 48))) is None


def test_images_of_one_colour_share_a_hash_and_differ_in_colour() -> None:
    near = NearDuplicates()
    for value in range(0, 250, 10):
        assert near.add(str(value), hash_image(Image.new("RGB", (30, 20), (value, value, value)))) is None
        assert near.add("again", hash_image(Image.new("RGB", (70, 50), (value, value, value)))) is not None


def test_turned_off_it_finds_nothing() -> None:
    near = NearDuplicates(NearDuplicatesConfig(max_distance=None))
    assert [near.add("a", hash_image(photograph(0))), near.add("b", hash_image(photograph(0)))] == [None, None]


def test_evaluation_sets_from_a_folder_or_a_file_of_hashes(tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    (folder / "val").mkdir(parents=True)
    for seed in range(4):
        photograph(seed).save(folder / "val" / f"{seed}.png")
    (folder / "broken.jpg").write_bytes(b"not an image")
    drops = Drops()
    assert write_hashes(folder, tmp_path / "coco.tsv", drops) == 4
    assert dict(drops) == {"image: not an image": 1}
    for path in (folder, tmp_path / "coco.tsv"):
        near = NearDuplicates()
        assert near.exclude("coco", path, Drops()) == 4
        jpeg = changed(photograph(2))[0]
        found = near.add("x", hash_image(jpeg))
        assert found is not None
        assert found[:2] == ("val/2.png", "coco")
        assert near.add("y", hash_image(photograph(9))) is None


@pytest.mark.parametrize("content", ["", "other\n", "# polyglance image hashes 1: hash, colours, name\n12\tzz\tname\n"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match=r"file"):
        NearDuplicates().exclude("set", tmp_path / "file", Drops())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image to exclude"):
        NearDuplicates().exclude("set", tmp_path / "empty", Drops())
    with pytest.raises(ValueError, match="cannot be read"):
        NearDuplicates().exclude("set", tmp_path / "missing", Drops())
