"""Images written sample by sample in every form of their headers: decoded as the reference here says, or left out.

The writers below know nothing of Pillow, and the reference is arithmetic on the samples.
"""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from polyglance.images import ImageError, encode_image, to_rgb

WIDTH, HEIGHT = 21, 10
NUM_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""PhotometricInterpretation (white is zero, black is zero, RGB, palette, CMYK, YCbCr, Lab) -> colour samples."""
WHITE = 255.0


def pack(samples: np.ndarray, bits: int, order: str) -> bytes:
    """Samples (rows, n) as rows of `bits` bits each, padded to whole bytes."""
    if bits in (8, 16, 32):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    as_bits = (samples[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(as_bits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def tiff(samples: np.ndarray, tags: dict[int, tuple[int, ...]], *, order: str, tiled: bool, deflate: bool) -> bytes:
    """A TIFF of samples (height, width, n) with these tags beside those that follow from the layout."""
    bits, planar = tags[258][0], tags.get(284, (1,))[0]
    planes = [samples[..., [i]] for i in range(samples.shape[2])] if planar == 2 else [samples]
    pieces = []
    for plane in planes:
        if tiled:
            padded = np.zeros((16 * -(-HEIGHT // 16), 16 * -(-WIDTH // 16), plane.shape[2]), plane.dtype)
            padded[:HEIGHT, :WIDTH] = plane
            pieces += [padded[:, x : x + 16] for x in range(0, padded.shape[1], 16)]
        else:
            pieces += [plane[y : y + 4] for y in range(0, HEIGHT, 4)]
    packed = [pack(piece.reshape(len(piece), -1), bits, order) for piece in pieces]
    if deflate:
        packed = [zlib.compress(piece) for piece in packed]
    if tags.get(266) == (2,):
        packed = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in piece) for piece in packed]
    places = 324 if tiled else 273
    layout = {256: (WIDTH,), 257: (HEIGHT,), 259: (8 if deflate else 1,), places: (0,) * len(packed)}
    layout |= {places + (1 if tiled else 6): tuple(map(len, packed))}
    layout |= {322: (16,), 323: (16,)} if tiled else {278: (4,)}
    return _write_directory({**layout, **tags}, places, packed, order)


def _write_directory(tags: dict[int, tuple[int, ...]], places: int, packed: list[bytes], order: str) -> bytes:
    """Directory after the header, then the values that do not fit into it, then the pixels."""
    after = 8 + 2 + 12 * len(tags) + 4
    size = sum(4 * len(values) for values in tags.values() if len(values) > 1)
    starts = np.cumsum([after + size, *map(len, packed)])[:-1]
    tags = {**tags, places: tuple(map(int, starts))}
    entries = long_values = b""
    for tag, values in sorted(tags.items()):
        kind, code = (4, "I") if max(values) > 65535 or tag in (273, 324, 279, 325) else (3, "H")
        encoded = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(encoded) > 4:
            value = struct.pack(f"{order}I", after + len(long_values))
            long_values += encoded.ljust(4 * len(values), b"\0")
        else:
            value = encoded.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + value
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)
    return head + long_values.ljust(size, b"\0") + b"".join(packed)


def expected_rgb(samples: np.ndarray, tags: dict[int, tuple[int, ...]], palette: np.ndarray) -> np.ndarray | None:
    """Pixels (height, width, 3) that the tags stand for (TIFF 6.0); None where they do not say."""
    if any(kind != 1 for kind in tags.get(339, (1,))):
        return None
    photometric = tags[262][0]
    scaled = samples / ((1 << tags[258][0]) - 1)
    colours = scaled[..., : NUM_SAMPLES[photometric]]
    if photometric in (0, 1):
        rgb = np.repeat(colours if photometric else 1 - colours, 3, axis=2)
    elif photometric == 2:
        rgb = colours
    elif photometric == 3:
        rgb = palette[samples[..., 0]] / 65535
    elif photometric == 5:
        rgb = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    else:
        return None
    extra = tags.get(338, (0,))[0]
    if extra == 1:
        rgb = rgb + 1 - scaled[..., -1:]
    elif extra == 2:
        rgb = rgb * scaled[..., -1:] + 1 - scaled[..., -1:]
    return _turned(WHITE * np.clip(rgb, 0, 1), tags.get(274, (1,))[0])


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns by the tag Orientation (TIFF 6.0): where the first row and the first column are."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1] if orientation in (2, 3) else pixels[::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1] if orientation in (3, 4) else pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if orientation >= 5 else pixels


def decode_or_none(data: bytes) -> np.ndarray | None:
    """Pixels, or None where the image is left out for a reason that blames nobody's file."""
    try:
        return np.asarray(to_rgb(data)).astype(int)
    except ImageError as error:
        if error.code != "unsupported pixels":
            raise
        return None


@pytest.mark.parametrize("photometric", NUM_SAMPLES)
def test_every_form_of_a_tiff_is_decoded_by_its_tags_or_left_out(photometric, capfd):
    random = np.random.default_rng(photometric)
    num_decoded = 0
    for _ in range(400):
        bits = int(random.choice([1, 2, 4, 8] if photometric == 3 else [1, 2, 4, 8, 8, 8, 12, 16, 16, 32]))
        extra = () if photometric == 3 or random.integers(2) else (int(random.integers(3)),)
        num_samples = NUM_SAMPLES[photometric] + len(extra)
        samples = random.integers(0, 1 << bits, (HEIGHT, WIDTH, num_samples))
        if extra == (1,):  # colours that were multiplied by alpha
            samples[..., :-1] = samples[..., :-1] * samples[..., -1:] // ((1 << bits) - 1)
        palette = random.integers(0, 65536, (1 << min(bits, 8), 3))
        tags = {258: (bits,) * num_samples, 262: (photometric,), 277: (num_samples,)}
        if photometric == 3:
            tags[320] = tuple(map(int, palette.T.ravel()))
        if extra:
            tags[338] = extra
        choices = {266: [1, 1, 2], 274: range(1, 9), 284: [1, 1, 2], 339: [1, 1, 1, 1, 2, 3]}
        for tag, values in choices.items():
            if random.integers(2):
                tags[tag] = (int(random.choice(values)),) * (num_samples if tag == 339 else 1)
        data = tiff(
            samples,
            tags,
            order=str(random.choice(["<", ">"])),
            tiled=bool(random.integers(2)),
            deflate=bool(random.integers(2)),
        )
        pixels, expected = decode_or_none(data), expected_rgb(samples, tags, palette)
        if pixels is None or photometric in (6, 8):
            continue
        assert expected is not None, tags
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).max() <= 3, tags
        num_decoded += 1
    assert num_decoded >= (0 if photometric in (6, 8) else 20)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 6])
def test_every_form_of_a_png_is_decoded_by_its_header(kind):
    random = np.random.default_rng(kind)
    for depth in {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(kind, (8, 16)):
        for has_key in (False, True) if kind in (0, 2, 3) else (False,):
            num_samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
            samples = random.integers(0, 1 << depth, (HEIGHT, WIDTH, num_samples))
            palette, alphas = (
                random.integers(0, 256, (1 << min(depth, 8), 3)),
                random.integers(0, 256, 1 << min(depth, 8)),
            )
            key = samples[3, 4]
            chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, 0))]
            if kind == 3:
                chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
            if has_key:
                values = alphas.astype(np.uint8) if kind == 3 else key.astype(">u2")
                chunks.append((b"tRNS", values.tobytes()))
            packed = [b"\0" + pack(row.reshape(1, -1), depth, ">") for row in samples]
            chunks += [(b"IDAT", zlib.compress(b"".join(packed))), (b"IEND", b"")]
            data = b"\x89PNG\r\n\x1a\n" + b"".join(
                struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
                for name, body in chunks
            )
            scaled = samples / ((1 << depth) - 1)
            colours, alpha = scaled[..., : 1 if kind in (0, 3, 4) else 3], np.ones((HEIGHT, WIDTH, 1))
            if kind == 3:
                colours = palette[samples[..., 0]] / 255
                alpha = alphas[samples] / 255 if has_key else alpha
            elif has_key:
                alpha = (samples != key).any(axis=-1, keepdims=True)
            elif kind in (4, 6):
                alpha = scaled[..., -1:]
            expected = WHITE * (colours * alpha + 1 - alpha)
            pixels = np.asarray(to_rgb(data)).astype(int)
            assert np.abs(pixels - expected).max() <= 2, (depth, has_key)


def bitmap(samples: np.ndarray, masks: tuple[int, int, int, int], *, bits: int, top_down: bool) -> bytes:
    """A BMP of samples (height, width, 4) with a header of version 4 and masks of red, green, blue and alpha."""
    values = np.zeros(samples.shape[:2], np.int64)
    for channel, mask in enumerate(masks):
        values |= samples[..., channel] << ((mask & -mask).bit_length() - 1) if mask else 0
    rows = values if top_down else values[::-1]
    packed = [row.astype(f"<u{bits // 8}").tobytes() for row in rows]
    pixels = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in packed)
    height = -HEIGHT if top_down else HEIGHT
    header = struct.pack("<IiiHHIIiiII4I", 108, WIDTH, height, 1, bits, 3, len(pixels), 2835, 2835, 0, 0, *masks)
    header = header.ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0x7C00, 0x3E0, 0x1F, 0)),
        (16, (0xF800, 0x7E0, 0x1F, 0)),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    ],
)
def test_every_form_of_a_bitmap_is_decoded_by_its_masks_or_left_out(bits, masks, top_down):
    random = np.random.default_rng(bits)
    maxima = np.array([mask // (mask & -mask) if mask else 0 for mask in masks])
    samples = random.integers(0, 1 << 32, (HEIGHT, WIDTH, 4)) % (maxima + 1)
    pixels = decode_or_none(bitmap(samples, masks, bits=bits, top_down=top_down))
    if pixels is not None:
        scaled = samples / np.maximum(maxima, 1)
        alpha = scaled[..., 3:] if masks[3] else 1
        # Pillow widens five bits by repeating them
        assert np.abs(pixels - WHITE * (scaled[..., :3] * alpha + 1 - alpha)).max() <= 4


def test_what_the_first_frame_of_a_gif_does_not_cover_is_background():
    screen = struct.pack("<HHBBB", 4, 2, 0x80, 0, 0) + bytes([255, 0, 0, 0, 0, 255])
    frame = b"," + struct.pack("<HHHHB", 1, 0, 2, 2, 0) + bytes([2, 3, 0b01_001_100, 0b001_001_00, 0b0_101_0]) + b"\0"
    image = to_rgb(b"GIF89a" + screen + frame + b";", background=(1, 2, 3))
    pixels = np.asarray(image)
    assert (pixels[:, [0, 3]] == (1, 2, 3)).all()
    assert not (pixels[:, 1:3] == (1, 2, 3)).all(axis=-1).any()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_orientation_that_stands_in_xmp_alone_is_applied(kind):
    packet = (
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><tiff:Orientation>6</tiff:Orientation></rdf:Description></rdf:RDF>'
        b'</x:xmpmeta><?xpacket end="r"?>'
    )
    file, image, options = BytesIO(), Image.new("RGB", (30, 20)), {"xmp": packet}
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"pnginfo": info}
    elif kind == "TIFF":
        options = {"tiffinfo": {700: packet}}
    image.save(file, kind, **options)
    assert to_rgb(file.getvalue()).size == (20, 30)
    stored, pixels = encode_image(file.getvalue())
    assert to_rgb(stored).size == pixels.size == (20, 30)
