"""Read a sheet of a workbook in a process of its own, which writes its rows to standard output as lines of JSON.

This file is run, never imported. What a damaged workbook holds can make the library that reads it ask for more memory
than there is, which ends the process that asks: here that costs nothing, and memory, time and output are bounded
before the file is opened. The lines are one of

    {"refused": "is no Excel file ..."}      what ends a sentence that begins with the file's name
    {"sheets": ["A", "B"]}                   the sheets to choose from, where none is named or there is no such sheet
    {"sheet": "A", "n_sheets": 3}            and then, for each row that is not empty, [its number, [its cells]]
"""

import contextlib
import datetime
import json
import re
import resource
import sys
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NoReturn
from xml.etree import ElementTree

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_MEMORY = 4 << 30  # some 30 million cells; a sheet's cells stand in a rectangle, whatever is empty in it
_SECONDS = 600
_OUTPUT = 2 << 30
_MAX_ENTRIES = 10_000
_MAX_UNPACKED = 4 << 30
_MAX_RATIO, _SMALL = 250, 1 << 20  # sheets of equal rows are packed to a fiftieth
_MAX_CELL = 1 << 20
_BLOCK = 1 << 22
_HAS_PASSWORD = "is protected by a password: save it without one, or save the sheet as CSV."
# A cell that holds an error, as Excel writes it: its column and row, and the word.
_ERROR = re.compile(
    rb'<(?:\w+:)?c\s(?=[^>]*\bt="e")(?=[^>]*\br="([A-Z]{1,3})([0-9]{1,7})")[^>]*>'
    rb"(?:<(?:\w+:)?f[^>]*(?:/>|>[^<]*</(?:\w+:)?f>))?<(?:\w+:)?v>(#[^<]{1,20})<"
)


def main(path: str, sheet: str | None) -> None:
    """Write what is described above."""
    _bound()
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
            if magic not in (_ZIP, _OLE):
                _refuse("is packed: unpack it first.")
            file.seek(0)
            if magic == _OLE and "EncryptedPackage".encode("utf-16-le") in file.read():
                _refuse(_HAS_PASSWORD)
            errors = _checked_zip(file, sheet) if magic == _ZIP else {}
        _read(path, sheet, errors)
    except (SystemExit, KeyboardInterrupt):
        raise
    except ImportError:
        _refuse(
            "is an Excel file, and python-calamine, which reads them, is not installed: pip install python-calamine."
        )
    except BaseException as error:  # the library's panics are no Exceptions
        if type(error).__name__ == "PasswordError":
            _refuse(_HAS_PASSWORD)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        _refuse(f"is no Excel file that can be read ({reason}): save it again, or save the sheet as CSV.")


def _bound() -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, _OUTPUT),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(OSError, ValueError):  # systems that know no such limit
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _say(line: Any) -> None:
    print(json.dumps(line))


def _refuse(reason: str) -> NoReturn:
    _say({"refused": reason})
    sys.stdout.flush()
    raise SystemExit


def _checked_zip(file: BinaryIO, sheet: str | None) -> dict[str, dict[tuple[int, int], str]]:
    """Refuse a zip that unpacks to too much, or to other than it says; return the errors of each sheet by their places.

    Excel's library reads them as empty cells.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if "xl/workbook.xml" not in names:
            if "xl/workbook.bin" in names or "content.xml" in names:
                _refuse(
                    "is a spreadsheet of another format than .xlsx and .xls: save it as .xlsx, or the sheet as CSV."
                )
            _refuse("is a zip file and no Excel file: unpack it, or save the sheet as CSV.")
        if len(names) != len(entries) or len(entries) > _MAX_ENTRIES:
            _refuse("is a zip file with too many parts, or two of one name: save it again, or save the sheet as CSV.")
        huge = any(part.file_size > _SMALL + _MAX_RATIO * part.compress_size for part in entries)
        if huge or sum(part.file_size for part in entries) > _MAX_UNPACKED:
            _refuse("unpacks to far more than a table of variants holds: save the sheet as CSV.")
        sheets = {target: name for name, target in _sheets(archive)}
        errors: dict[str, dict[tuple[int, int], str]] = {}
        for part in entries:  # all of it, so that sizes that lie are found: then the checksum is wrong
            with archive.open(part) as content:
                name = sheets.get(part.filename)
                if name is None or sheet not in (None, name):
                    while content.read(_BLOCK):
                        pass
                else:
                    errors[name] = dict(_errors(iter(lambda: content.read(_BLOCK), b"")))
    return errors


def _sheets(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield the names of sheets and of the parts that hold them."""
    parts = {}
    with contextlib.suppress(KeyError):
        for relation in ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels")):
            target = relation.get("Target", "")
            parts[relation.get("Id")] = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    for element in ElementTree.fromstring(archive.read("xl/workbook.xml")).iter():
        if element.tag.rpartition("}")[2] == "sheet":
            ids = [value for key, value in element.attrib.items() if key.rpartition("}")[2] == "id"]
            yield element.get("name", ""), parts.get(ids[0] if ids else None, "")


def _errors(blocks: Iterable[bytes]) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield (row, column), from 0, and the word of each cell that holds an error."""
    rest = b""
    for block in blocks:
        text = rest + block
        end = 0
        for match in _ERROR.finditer(text) if b't="e"' in text else ():
            column = 0
            for letter in match[1]:
                column = column * 26 + letter - 64
            yield (int(match[2]) - 1, column - 1), match[3].decode("ascii", "replace")
            end = match.end()
        rest = text[max(end, len(text) - 4096) :]  # a cell may go on in the next block


def _read(path: str, sheet: str | None, errors: dict[str, dict[tuple[int, int], str]]) -> None:
    from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

    with CalamineWorkbook.from_path(path) as book:
        known = [one.name for one in book.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
        hidden = {one.name for one in book.sheets_metadata if one.visible != SheetVisibleEnum.Visible}
        if sheet is not None or len(known) == 1:
            chosen = [name for name in known if sheet in (None, name)]
        else:
            full = [name for name in known if _is_full(book.get_sheet_by_name(name))]
            chosen = [name for name in full if name not in hidden] or full
        if len(chosen) != 1:
            _say({"sheets": known if sheet is not None else chosen})
            return
        (name,) = chosen
        cells = book.get_sheet_by_name(name)
        _say({"sheet": name, "n_sheets": len(known)})
        first = (cells.start or (0, 0))[1]
        by_row: dict[int, list[tuple[int, str]]] = {}
        for (row, column), word in errors.get(name, {}).items():
            by_row.setdefault(row, []).append((column - first, word))
        for row, values in enumerate(cells.iter_rows()):
            texts = list(map(_text, values))
            for column, word in by_row.get(row, ()):
                if 0 <= column < len(texts) and not texts[column]:
                    texts[column] = word
            while texts and not texts[-1]:
                texts.pop()
            if texts:
                if max(map(len, texts)) > _MAX_CELL:
                    _refuse(f"has a cell of more than {_MAX_CELL:,} characters in row {row + 1}: correct it.")
                _say([row + 1, texts])


def _is_full(sheet: Any) -> bool:
    return any(value != "" for row in sheet.iter_rows() for value in row)


def _text(value: Any) -> str:
    """A cell as a CSV file has it: 1 for a whole number, all digits of others, times as ISO 8601 has them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return value.isoformat(" ") if isinstance(value, datetime.datetime) else str(value)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
