"""The lines of a text file of unknown making: plain or gzipped, UTF-8 or UTF-16, with any line ends."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.errors import UserError

MAX_LINE_BYTES = 1 << 20  # of UTF-8; the longest protein known has 38,000 residues
_MAX_BYTES = 8 << 30  # unpacked; a bomb of some MiB can hold more than any memory
_BLOCK_BYTES = 4 << 20
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_NOT_TEXT = {
    b"PK\x03\x04": "a zip or Excel file; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"\x89HDF": "an HDF5 file; save the table as CSV",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"%PDF": "a PDF; save the table as CSV",
}


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of the content, unpacked, to tell formats apart; a UserError if it cannot be read."""
    with _opened(path) as file:
        return _read(file, 512, path)


def read_lines(path: Path) -> Iterator[list[str]]:
    """Yield the lines without their ends, many at a time, none kept.

    A byte-order mark is taken off; a last line without an end counts, an empty one does not. Line ends are LF, CRLF
    or, in a file without LF, CR. A UserError names the line that is no text, or too long to be read.
    """
    n_lines, n_bytes, rest = 0, 0, b""
    with _opened(path) as file:
        for block in _utf8(file, path):
            n_bytes += len(block)
            if n_bytes > _MAX_BYTES:
                raise UserError(f"{path} has more than {_MAX_BYTES >> 30} GiB of text; divide it.")
            rest += block
            if b"\0" in block:
                at = n_lines + _count_ends(rest[: rest.index(b"\0")])
                raise UserError(
                    f"{path}, line {at + 1}: there is a zero byte, so this is no text in UTF-8 (or UTF-16 without its "
                    "byte-order mark); save the file as UTF-8."
                )
            # A CR that is the last byte may be the first half of a line's end.
            cut = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1
            if len(rest) - cut > MAX_LINE_BYTES:
                raise _too_long(path, n_lines + _count_ends(rest[:cut]))
            if cut:
                lines = _lines(rest[:cut], path, n_lines)
                rest, n_lines = rest[cut:], n_lines + len(lines)
                yield lines
    if rest:
        yield _lines(rest, path, n_lines)


def _opened(path: Path) -> BinaryIO:
    try:
        if not path.exists():
            raise UserError(f"There is no file {path}.")
        if not path.is_file():
            raise UserError(f"{path} is not a file; name one that is.")
        file = path.open("rb")
        magic = file.read(8)
        file.seek(0)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not magic:
        file.close()
        raise UserError(f"{path} is empty: line 1 should be a header.")
    if magic.startswith(b"\x1f\x8b"):
        file.close()
        return gzip.open(path)  # type: ignore[return-value]  # closes the file with it, unlike around an open one
    return file


def _read(file: BinaryIO, n_bytes: int, path: Path) -> bytes:
    try:
        return file.read(n_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a gzip file that can be unpacked ({error}); pack it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error


def _utf8(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the content in UTF-8 without its byte-order mark; not checked where it is in UTF-8 already."""
    start = _read(file, _BLOCK_BYTES, path)
    if not start:
        raise UserError(f"{path} is empty: line 1 should be a header.")
    for magic, what in _NOT_TEXT.items():
        if start.startswith(magic):
            raise UserError(f"{path} is no table of text but {what}.")
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise UserError(f"{path}, line 1: the text is in UTF-32; save the file as UTF-8.")
    encoding = _UTF16.get(start[:2])
    if encoding is None:
        yield start.removeprefix(codecs.BOM_UTF8)
        while block := _read(file, _BLOCK_BYTES, path):
            yield block
        return
    decoder, n_lines, block = codecs.getincrementaldecoder(encoding)(), 0, start[2:]
    while True:
        try:
            text = decoder.decode(block, final=not block)
            decoded = text.encode()
        except UnicodeError as error:
            raise UserError(
                f"{path}, near line {n_lines + 1}: the text is not valid UTF-16 ({error}); save the file as UTF-8."
            ) from error
        n_lines += text.count("\n")
        yield decoded
        if not block:
            return
        block = _read(file, _BLOCK_BYTES, path)


def _lines(content: bytes, path: Path, n_before: int) -> list[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        at = n_before + _count_ends(content[: error.start])
        raise UserError(
            f"{path}, line {at + 1}: the byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8."
        ) from error
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    # Characters are never more than bytes, and the check of the block bounds both.
    if len(content) > MAX_LINE_BYTES and max(map(len, lines)) > MAX_LINE_BYTES:
        raise _too_long(path, n_before + next(i for i, line in enumerate(lines) if len(line) > MAX_LINE_BYTES))
    return lines


def _count_ends(content: bytes) -> int:
    return content.count(b"\n") or content.count(b"\r")


def _too_long(path: Path, n_before: int) -> UserError:
    return UserError(
        f"{path}, line {n_before + 1}: the line has more than {MAX_LINE_BYTES:,} bytes, which no variant has; "
        "check the file's line ends and quotes."
    )
