"""The lines of a text file of unknown making: plain or gzipped, UTF-8 or UTF-16, with any line ends."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.common.errors import UserError

MAX_LINE_BYTES = 1 << 20  # of UTF-8; the longest protein known has 38,000 residues
_MAX_BYTES = 8 << 30  # unpacked; a bomb of some MiB can hold more than any memory
_BLOCK_BYTES = 1 << 20  # stays in the processor's cache
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_NOT_TEXT = {
    b"PK\x03\x04": "a zip or Excel file; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"\x89HDF": "an HDF5 file; save the table as CSV",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"%PDF": "a PDF; save the table as CSV",
    b"PAR1": "a Parquet file; save the table as CSV",
}


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of the content, unpacked, to tell formats apart; a UserError if it cannot be read."""
    with _opened(path) as file:
        return _read(file, 512, path)


def read_lines(path: Path) -> Iterator[list[str]]:
    """Yield the lines without their ends, many at a time, none kept. The errors are those of `read_blocks`."""
    for block in read_blocks(path):
        lines = block.decode().split("\n")
        if not lines[-1]:
            lines.pop()
        yield lines


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the content as blocks of whole lines in UTF-8, each line ended by LF, but perhaps the file's last.

    A byte-order mark is taken off. Line ends are LF, CRLF or, in a file without LF, CR. A UserError names the line that
    is no text, or too long to be read.
    """
    n_bytes, n_yielded, rest = 0, 0, b""
    with _opened(path) as file:
        for block in _utf8(file, path):
            n_bytes += len(block)
            if n_bytes > _MAX_BYTES:
                raise UserError(f"{path} has more than {_MAX_BYTES >> 30} GiB of text; divide it.")
            if b"\0" in block:
                at = _line(path, n_bytes - len(block) + block.index(b"\0"))
                raise UserError(
                    f"{path}, line {at}: there is a zero byte, so this is no text in UTF-8 (or UTF-16 without its "
                    "byte-order mark); save the file as UTF-8."
                )
            block = rest + block if rest else block
            # A CR that is the last byte may be the first half of a line's end.
            cut = block.rfind(b"\n") + 1 or block.rfind(b"\r", 0, -1) + 1
            rest = block[cut:]
            if cut:
                yield _checked(block[:cut], path, n_yielded)
                n_yielded += cut
            if len(rest) > MAX_LINE_BYTES:
                raise _too_long(path, n_yielded)
    if rest:
        yield _checked(rest, path, n_yielded)


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
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return file


def _read(file: BinaryIO, n_bytes: int, path: Path, *, is_line: bool = False) -> bytes:
    """Return the next bytes, or those up to the end of the line."""
    try:
        return file.readline(n_bytes) if is_line else file.read(n_bytes)
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
        yield start.removeprefix(codecs.BOM_UTF8) + _read(file, MAX_LINE_BYTES, path, is_line=True)
        while block := _read(file, _BLOCK_BYTES, path):
            yield block + _read(
                file, MAX_LINE_BYTES, path, is_line=True
            )  # so that most blocks are whole lines, which nothing has to divide
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


def _checked(block: bytes, path: Path, n_before: int) -> bytes:
    """Return whole lines with LF as their ends, once they are known to be UTF-8 and of a length that lines have.

    `n_before` is how many bytes of UTF-8 stand before the block.
    """
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError as error:
            at = _line(path, n_before + error.start)
            raise UserError(
                f"{path}, line {at}: the byte 0x{block[error.start]:02x} is not UTF-8; save the file as UTF-8."
            ) from error
    # A line that is too long leaves one of these stretches, each half as long, without an end.
    half = MAX_LINE_BYTES // 2
    end = b"\n" if b"\n" in block else b"\r"
    if any(block.find(end, start, start + half) < 0 for start in range(0, len(block), half)):
        at = n_before
        for line in block.split(end):
            if len(line) > MAX_LINE_BYTES:
                raise _too_long(path, at)
            at += len(line) + 1
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block


def _line(path: Path, n_before: int) -> int:
    """Return the number of the line that `n_before` bytes of UTF-8 stand before: counted only where it is asked for."""
    n_ends = {b"\n": 0, b"\r": 0}
    with _opened(path) as file:
        for block in _utf8(file, path):
            for end in n_ends:
                n_ends[end] += block.count(end, 0, n_before)
            n_before -= min(n_before, len(block))
            if not n_before:
                break
    return (n_ends[b"\n"] or n_ends[b"\r"]) + 1


def _too_long(path: Path, n_before: int) -> UserError:
    return UserError(
        f"{path}, line {_line(path, n_before)}: the line has more than {MAX_LINE_BYTES:,} bytes, which no variant has; "
        "check the file's line ends and quotes."
    )
