"""Pixels of `polyglance.images.to_rgb` against those of a second decoder, ImageMagick, over folders of pictures.

    python benchmarks/image_agreement.py FOLDER... [--show all]

FOLDERs for a figure: `Tests/images` of Pillow's repository and source distribution, `test/images` of libtiff,
`TestCase` of BitMiracle's LibTiff.Net (the tiger, flower and libtiffpic sets), `tests` of image-rs/image-tiff and
image-rs/image. ImageMagick is `apt-get install imagemagick`.

A picture agrees if 99 % of its values differ by at most 2 of 255 (decoders round, and reckon YCbCr in their own ways)
from ImageMagick's, or, for TIFF, from libtiff's own `tiff2rgba` (`apt-get install libtiff-tools`). It is refused if
`to_rgb` raises `ImageError`. Files of other formats are left out. Where the others are wrong, `_EXPLAINED` says why.
"""

import argparse
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from polyglance.images import IMAGE_FORMATS, ImageError, to_rgb

_AGREE, _EXPLAINED_KIND, _DISAGREE = "agree", "explained", "disagree"
_ALONE, _REFUSED = "no second decoder", "refused"

_NO_ALPHA = "a sample or byte that is not said to be alpha is none (TIFF 6.0, bmpsuite)"
_WHITE_POINT = "Lab has the white of D50, as Photoshop writes it; the others take D65"
_XMP = "ImageMagick does not look for the orientation in XMP"
_CANVAS = "the canvas of a GIF is extended to a first frame that is larger, as in browsers"
_INVERTED = "2 and 4 bits of PhotometricInterpretation 0 are inverted (libtiff agrees on hopper2I and hopper4I)"
_EXPLAINED = {
    "oob.gif": _CANVAS,
    "issue_1455_oversized.gif": _CANVAS,
    "extra_bits_rgb_8b.tiff": _NO_ALPHA,
    "16-bit-4-Band.tiff": _NO_ALPHA,
    "rgb32fakealpha.bmp": _NO_ALPHA,
    "pal8os2v2.bmp": "the same pixels as pal8.bmp, as bmpsuite says; ImageMagick misreads the palette",
    "hopper.Lab.tif": _WHITE_POINT,
    "lab8-lzw.tif": _WHITE_POINT,
    "hopper2IR.tif": _INVERTED,
    "hopper4IR.tif": _INVERTED,
    "xmp_tags_orientation.png": _XMP,
    "xmp_tags_orientation_exiftool.png": _XMP,
    "G3_Premature_EOL.tif": "a page of text; libtiff before 4.7 gives a white page",
}
"""File name -> why a second decoder shows it otherwise."""


class Outcome(NamedTuple):
    """Result of one picture."""

    kind: str
    path: Path
    detail: str


def main() -> None:
    """Print disagreements and refusals, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--show", choices=("disagree", "all"), default="disagree")
    arguments = parser.parse_args()
    paths = [path for folder in arguments.folders for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(2) as threads:
        outcomes = [outcome for outcome in threads.map(compare, paths) if outcome is not None]
    for outcome in outcomes:
        if arguments.show == "all" or outcome.kind == _DISAGREE:
            print(f"{outcome.kind:<18} {outcome.path}  {outcome.detail}")
    print(f"{len(outcomes):,} pictures: " + ", ".join(f"{n:,} {kind}" for kind, n in _counts(outcomes)))
    for detail, number in Counter(it.detail.partition(":")[0] for it in outcomes if it.kind == _REFUSED).most_common():
        print(f"  refused as {detail}: {number:,}")


def _counts(outcomes: list[Outcome]) -> Iterator[tuple[str, int]]:
    for kind in (_AGREE, _EXPLAINED_KIND, _DISAGREE, _ALONE, _REFUSED):
        yield kind, sum(outcome.kind == kind for outcome in outcomes)


def compare(path: Path) -> Outcome | None:
    """Decode a file with both decoders; None for files that are in none of `IMAGE_FORMATS`."""
    data = path.read_bytes()
    name = _format_of(data)
    try:
        pixels = np.asarray(to_rgb(data)).astype(int)
    except ImageError as error:
        return Outcome(_REFUSED, path, f"{error.code}: {error}") if name else None
    others = {"ImageMagick": _decode_with_imagemagick(path, name)}
    if name == "TIFF":
        others["libtiff"] = _decode_with_libtiff(path)
    details = [_difference(pixels, other, whose) for whose, other in others.items() if other is not None]
    if not details:
        return Outcome(_ALONE, path, name)
    if "" in details:
        return Outcome(_AGREE, path, name)
    if path.name in _EXPLAINED:
        return Outcome(_EXPLAINED_KIND, path, _EXPLAINED[path.name])
    return Outcome(_DISAGREE, path, "; ".join(details))


def _difference(pixels: np.ndarray, other: np.ndarray, whose: str) -> str:
    """Say how far two decoders differ; empty if they agree."""
    if other.size != pixels.size:
        return f"{whose}: {pixels.shape[1]} x {pixels.shape[0]}, not {other.size // 3} pixels"
    difference = np.abs(pixels.ravel() - other)
    is_same = (difference > 2).mean() <= 0.01
    return "" if is_same else f"{whose}: {(difference > 2).mean():.0%} differ, by {difference.mean():.1f} on average"


def _format_of(data: bytes) -> str:
    """Format by the first bytes, as Pillow names it; empty for others than `IMAGE_FORMATS`."""
    starts = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "BMP": b"BM", "WEBP": b"RIFF"}
    for name, start in starts.items():
        if data.startswith(start) and (name != "WEBP" or data[8:12] == b"WEBP"):
            return name
    return "TIFF" if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") else ""


def _decode_with_imagemagick(path: Path, name: str) -> np.ndarray | None:
    """Return the values of the first frame, upright, over white, in one row; None if ImageMagick cannot read it."""
    canvas = ["-flatten"] if name in ("GIF", "WEBP") else ["-alpha", "remove"]
    command = ["convert", f"{name.lower()}:{path}[0]", "-background", "white", *canvas, "-auto-orient"]
    command += ["-set", "colorspace", "sRGB"] if name == "PNG" else []  # a gamma of 1 is not applied by others
    command += ["-colorspace", "sRGB", "-type", "TrueColor", "-depth", "8", "rgb:-"]
    done = subprocess.run(command, capture_output=True, check=False)
    return np.frombuffer(done.stdout, np.uint8).astype(int) if done.returncode == 0 and done.stdout else None


def _decode_with_libtiff(path: Path) -> np.ndarray | None:
    """Return the values of `tiff2rgba`, over white, in one row; None if it cannot read the file."""
    with TemporaryDirectory() as folder:
        target = f"{folder}/rgba.tif"
        command = ["tiff2rgba", "-c", "none", str(path), target]
        if subprocess.run(command, capture_output=True, check=False).returncode or not Path(target).exists():
            return None
        try:
            with Image.open(target) as image:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGBA")).astype(int)
        except OSError:
            return None
    return (pixels[..., :3] + 255 - pixels[..., 3:]).ravel()  # colours are multiplied by alpha


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None
    assert set(IMAGE_FORMATS) == {"PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"}
    main()
