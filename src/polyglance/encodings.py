"""Text files as UTF-8 bytes with `\\n` at line ends, whatever their compression and encoding.

    with open_utf8(Path("captions.csv.gz")) as file:
        for line in file: ...

Compression (gzip, bzip2, xz, zstd) and encoding (UTF-8, UTF-16, UTF-32, with or without a byte order mark) are found
from the first bytes of the file, not from its name. Any other encoding has to be given. Bytes that are not valid in the
encoding are passed on unchanged (UTF-8) or become U+FFFD (all others), so that they can be counted.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

__all__ = [
    "COMPRESSED_SUFFIXES",
    "DAMAGE",
    "TextFormat",
    "decode_or_keep",
    "detect_encoding",
    "detect_text_format",
    "find_binary",
    "open_unpacked",
    "open_utf8",
    "transcode",
]

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""Extensions of compressed files."""
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""Errors of the decompressors on truncated or damaged files."""
_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
"""Compression -> first bytes."""
_BINARY = (
    (0, b"PK\x03\x04", "a ZIP file, as workbooks of Excel are (save the sheet as CSV)"),
    (0, b"\xd0\xcf\x11\xe0", "a file of an older Office (save the sheet as CSV)"),
    (257, b"ustar", "a tar archive (unpack it)"),
    (0, b"PAR1", "a file of Parquet (name it .parquet)"),
    (0, b"ARROW1\0\0", "a file of Arrow (name it .arrow)"),
    (0, b"\x80\x04\x95", "a pickle of Python"),
    (0, b"\x80\x05\x95", "a pickle of Python"),
    (0, b"\x93NUMPY", "an array of numpy"),
    (0, b"SQLite format 3\0", "a database of SQLite"),
    (0, b"%PDF-", "a PDF"),
)
"""Offset, bytes there, and description of files that are no text."""
_MARKS = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order mark -> encoding."""
_CONTROLS = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
_HEAD_BYTES = 2**16
_BUFFER_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """How the text of a file is written."""

    compression: str = ""
    """`gzip`, `bzip2`, `xz` or `zstd`; empty: none."""
    encoding: str = "utf-8"
    """Name of a codec of Python."""
    has_mark: bool = False
    """Whether the text begins with a byte order mark."""
    mac_lines: bool = False
    """Whether lines end in `\\r` alone, as on old Macs."""

    @property
    def is_plain(self) -> bool:
        """Whether `open_utf8` returns the file's bytes unchanged, so that a line can be reached by its offset."""
        return not self.compression and not self.must_transcode

    @property
    def must_transcode(self) -> bool:
        """Whether the unpacked bytes have to be converted for `open_utf8`."""
        return self.encoding != "utf-8" or self.has_mark or self.mac_lines

    def describe(self) -> str:
        """Return the format in words: `utf-16-le, gzip`."""
        return ", ".join(part for part in (self.encoding, self.compression, "\\r lines" * self.mac_lines) if part)


def open_utf8(path: Path, form: TextFormat | None = None) -> IO[bytes]:
    """Open a file of text; its byte order mark is left out.

    Args:
        form: its format; None: as `detect_text_format` finds.

    Raises:
        OSError: no such file, or no permission to read it. Reading may raise one of `DAMAGE`.
    """
    form = form or detect_text_format(path)
    file = _unpack(path, form.compression)
    return transcode(file, form) if form.must_transcode else file


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file that states its encoding itself (XML); compression is found from its first bytes."""
    return _unpack(path, _find_compression(path))


def detect_text_format(path: Path, encoding: str = "auto") -> TextFormat:
    """Detect compression, encoding and line ends from the first bytes of a file.

    Raises:
        ValueError: an unknown encoding, a pipe, or a file that is no text.
        OSError: no such file, or it may not be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path}: a pipe or a device, which can be read only once; write it to a file")
    compression = _find_compression(path)
    with _unpack(path, compression) as file:
        try:
            head = file.read(_HEAD_BYTES)
        except DAMAGE:
            head = b""  # the damage is reported when the file is read
    if kind := find_binary(head):
        raise ValueError(f"{path}: {kind}, not text")
    return replace(detect_encoding(head, encoding), compression=compression)


def find_binary(head: bytes) -> str:
    """Describe a file that is no text, by its first bytes (512 or more) without compression; empty if it may be one."""
    return next((name for offset, magic, name in _BINARY if head.startswith(magic, offset)), "")


def detect_encoding(head: bytes, encoding: str = "auto") -> TextFormat:
    """Detect encoding and line ends from the first bytes of a text."""
    mark, marked = next(((mark, name) for mark, name in _MARKS.items() if head.startswith(mark)), (b"", ""))
    name = marked or _guess_wide(head) or "utf-8" if encoding == "auto" else _check_codec(encoding)
    has_mark = bool(marked) and name == marked
    text = head[len(mark) if has_mark else 0 :].decode(name, "replace")
    return TextFormat(encoding=name, has_mark=has_mark, mac_lines="\r" in text and "\n" not in text)


def _check_codec(name: str) -> str:
    try:
        codec = codecs.lookup(name)
        "a".encode(codec.name)  # not a codec of bytes, such as zip
    except (LookupError, UnicodeError):
        raise ValueError(f"unknown encoding {name!r}; for example: utf-8, utf-16, cp1252, latin-1, gb18030") from None
    return {"utf-8-sig": "utf-8"}.get(codec.name, codec.name)


def _guess_wide(head: bytes) -> str | None:
    """Return the name of UTF-16 or UTF-32 without a mark; None for any other encoding.

    In these encodings every line feed, space and digit has zero bytes at the same positions of its group of bytes.
    """
    num_controls = len(_CONTROLS.findall(head))
    if b"\0" not in head or (5 * num_controls < len(head) and _is_utf8(head)):  # a stray zero byte in UTF-8
        return None
    for name, size in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        text = head[: len(head) // size * size].decode(name, "replace")
        if "\n" in text or "\r" in text:
            num_strange = sum(not (character.isprintable() or character in "\r\n\t\ufeff") for character in text)
            if num_strange <= len(text) // 100 and "\ufffd" not in text[:-1]:
                return name
    return None


def decode_or_keep(text: bytes) -> str | bytes:
    """Decode UTF-8; other bytes are returned as they are."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def transcode(file: IO[bytes], form: TextFormat) -> IO[bytes]:
    """Return the text of an open file as UTF-8 with `\\n` at line ends."""
    return cast(IO[bytes], io.BufferedReader(_Transcoded(file, form), _BUFFER_BYTES))


class _Transcoded(io.RawIOBase):
    """The UTF-8 bytes of a file in another encoding; not seekable."""

    def __init__(self, file: IO[bytes], form: TextFormat) -> None:
        self._file, self._form = file, form
        self._decoder = codecs.getincrementaldecoder(form.encoding)(errors="replace")
        self._chunks = self._read_chunks()
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        while not self._pending:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._pending = chunk
        taken = self._pending[: len(view)]
        self._pending = self._pending[len(taken) :]
        view[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _read_chunks(self) -> Iterator[bytes]:
        """Yield the text after the byte order mark. Bytes of a UTF-8 file are not decoded: invalid ones are kept."""
        at_start, is_utf8 = True, self._form.encoding == "utf-8"
        while chunk := self._file.read(_BUFFER_BYTES):
            text = chunk if is_utf8 else self._decoder.decode(chunk).encode("utf-8", "replace")
            if at_start:
                text = text.removeprefix(codecs.BOM_UTF8)
                at_start = False
            yield text.replace(b"\r", b"\n") if self._form.mac_lines else text
        if not is_utf8:
            yield self._decoder.decode(b"", final=True).encode("utf-8", "replace")


def _find_compression(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return next((name for name, magic in _MAGIC.items() if magic.match(start)), "")


def _unpack(path: Path, compression: str) -> IO[bytes]:
    match compression:
        case "gzip":
            return cast(IO[bytes], gzip.open(path, "rb"))
        case "bzip2":
            return cast(IO[bytes], bz2.open(path, "rb"))
        case "xz":
            return cast(IO[bytes], lzma.open(path, "rb"))
        case "zstd":
            import pyarrow as pa  # heavy, and no other compression needs it

            return cast(IO[bytes], io.BufferedReader(pa.input_stream(path, compression="zstd"), _BUFFER_BYTES))
        case _:
            return path.open("rb", buffering=_BUFFER_BYTES)
