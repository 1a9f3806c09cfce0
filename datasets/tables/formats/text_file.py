"""The lines of a text file of unknown making: plain or gzipped, UTF-8, UTF-16 or Windows-1252, with any line ends."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.common.errors import UserError

MAX_LINE_BYTES = 1 << 20  # of UTF-8; the longest protein known has 38,000 residues
_MAX_BYTES = 8 << 30  # unpacked; a bomb of some MiB can hold more than any memory
_BLOCK_BYTES = 1 << 22  # smaller ones cost more to hand from thread to thread
_ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_WINDOWS = "cp1252"
PARQUET = b"PAR1\x15"
"""How a file of that format begins: its mark, and a field of what follows. A header of text may begin with PAR1."""
_NOT_TEXT = {
    b"PK\x03\x04": "a zip or Excel file; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"\x89HDF": "an HDF5 file; save the table as CSV",
    **{f"BZh{level}1AY&SY".encode(): "packed with bzip2; unpack it, or pack it with gzip" for level in range(1, 10)},
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"%PDF": "a PDF; save the table as CSV",
    **dict.fromkeys(
        (b"<?xml", b"<html", b"<HTML", b"<table", b"<!DOCTYPE"),
        "a web page or XML, which some programs call .xls; open it in Excel and save it as .xlsx, or as CSV",
    ),
    PARQUET: "a Parquet file; save the table as CSV",
}


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of the content, unpacked, to tell formats apart; a UserError if it cannot be read."""
    with _opened(path) as file:
        return _read(file, 4096, path)


def read_lines(path: Path, notes: list[str] | None = None) -> Iterator[list[str]]:
    """Yield the lines without their ends, many at a time, none kept. Notes and errors are those of `read_blocks`."""
    rest = ""
    for block in read_blocks(path, notes):
        *lines, rest = (rest + block.decode()).split("\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def read_blocks(path: Path, notes: list[str] | None = None) -> Iterator[bytes]:
    """Yield the content in UTF-8, block by block, without its byte-order mark; a block may end in the middle of a line.

    Line ends, which are LF, CRLF or CR in the file, are LF. Text that is not UTF-8 from the first byte on that is not
    ASCII is taken for Windows-1252 (Latin-1 with quotes and dashes), and `notes` gets a sentence that says so. A
    UserError names the line that is no text, or too long.
    """
    n_bytes, begun = 0, 0  # where in the next block the line begins that it goes on with: before it, or at its start
    for i, block in enumerate(_utf8(path, notes)):
        n_bytes += len(block)
        if n_bytes > _MAX_BYTES:
            raise UserError(f"{path} has more than {_MAX_BYTES >> 30} GiB of text; divide it.")
        while len(block) - begun > MAX_LINE_BYTES:
            end = block.rfind(b"\n", max(begun, 0), begun + MAX_LINE_BYTES + 1)
            if end < 0:
                raise UserError(
                    f"{path}, line {_line(path, i, block[: max(begun, 0)])}: the line has more than "
                    f"{MAX_LINE_BYTES:,} bytes, which no variant has; check the file's line ends and quotes."
                )
            begun = end + 1
        begun = max(begun, block.rfind(b"\n") + 1 or begun) - len(block)
        if block:
            yield block


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


def _read(file: BinaryIO, n_bytes: int, path: Path) -> bytes:
    """Return the next bytes."""
    try:
        return file.read(n_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is not a gzip file that can be unpacked ({error}); pack it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error


def _utf8(path: Path, notes: list[str] | None = None) -> Iterator[bytes]:
    """Yield the content as `read_blocks` does, whatever the lengths of its lines."""
    with _opened(path) as file:
        block = _read(file, _BLOCK_BYTES, path)
        if not block:
            raise UserError(f"{path} is empty: line 1 should be a header.")
        for magic, what in _NOT_TEXT.items():
            if block.startswith(magic):
                raise UserError(f"{path} is no table of text but {what}.")
        if block.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
            raise UserError(f"{path}, line 1: the text is in UTF-32; save the file as UTF-8.")
        mark = next(filter(block.startswith, _ENCODINGS), b"")
        encoding = _ENCODINGS.get(mark, "utf-8")
        decoder = _decoder(encoding)
        start = decoder.getstate()
        block, n_yielded, is_ascii = block[len(mark) :], 0, not mark
        while True:
            lowest = np.frombuffer(block, dtype=np.int8).min(initial=1)  # faster than to ask for what is not ASCII
            is_ready = encoding == "utf-8" and lowest >= 0 and b"\r" not in block and decoder.getstate() == start
            if lowest <= 0 and encoding == "utf-8":
                _refuse_zero(block, path, n_yielded)
            try:
                text = block if is_ready else decoder.decode(block, final=not block).encode()
            except UnicodeDecodeError as error:
                before = error.object[: error.start]
                held = decoder.getstate()[1] & 1  # the end of the block before was a CR
                at = _line(path, n_yielded, b"\r" * held + before.decode(encoding).encode())
                odd = error.object[error.start : error.start + 1]
                if not (is_ascii and before.isascii() and odd.decode(_WINDOWS, "ignore")):
                    raise _not_text(path, at, odd, encoding, error) from error
                if notes is not None:
                    notes.append(
                        f"the text is not UTF-8 and is read as Windows-1252: line {at} has {odd.decode(_WINDOWS)!r}"
                    )
                encoding, block, decoder = _WINDOWS, error.object, _decoder(_WINDOWS)
                decoder.setstate((b"", held))
                continue
            if encoding != "utf-8":
                _refuse_zero(text, path, n_yielded)
            elif not is_ready:
                is_ascii &= text.isascii()
            yield text
            if not block:
                return
            n_yielded += 1
            block = _read(file, _BLOCK_BYTES, path)


def _decoder(encoding: str) -> io.IncrementalNewlineDecoder:
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)


def _not_text(path: Path, at: int, odd: bytes, encoding: str, error: UnicodeDecodeError) -> UserError:
    what = f"line {at}: the byte 0x{odd.hex()} is not UTF-8"
    if encoding == _WINDOWS:
        what += ", and not Windows-1252 as the bytes before it might be"
    elif encoding != "utf-8":
        what = f"near line {at}: the text is not valid UTF-16 ({error})"
    return UserError(f"{path}, {what}; save the file as UTF-8.")


def _refuse_zero(block: bytes, path: Path, n_before: int) -> None:
    before, zero, _ = block.partition(b"\0")
    if zero:
        raise UserError(
            f"{path}, line {_line(path, n_before, before)}: there is a zero byte, so this is no text in UTF-8 (or "
            "UTF-16 without its byte-order mark); save the file as UTF-8."
        )


def _line(path: Path, n_blocks: int, part: bytes = b"") -> int:
    """Return the number of the line that follows some blocks and part of one: counted only where it is asked for."""
    n_ends = part.count(b"\n") + part.count(b"\r") - part.count(b"\r\n")
    return 1 + n_ends + sum(block.count(b"\n") for block in islice(_utf8(path), n_blocks))
