"""Workbooks as Excel writes them, small: .xlsx is a zip of XML, .xls records within an old file of files."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
DATE, PERCENT = 1, 2
"""Styles of cells: pass (number, style)."""
Rows = Sequence[Sequence[Any]]


def write_xlsx(path: Path, sheets: Mapping[str, Rows], *, hidden: Sequence[str] = ()) -> Path:
    """Write a workbook; see `xlsx_parts`."""
    path.write_bytes(zipped(xlsx_parts(sheets, hidden=hidden)))
    return path


def zipped(parts: Mapping[str, bytes]) -> bytes:
    """A zip file of these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)
    return file.getvalue()


def xlsx_parts(sheets: Mapping[str, Rows], *, hidden: Sequence[str] = ()) -> dict[str, bytes]:
    """The files within a workbook.

    Cells are texts, numbers, booleans, errors (`#N/A`), (number, style), and None or "" for no cell. A text that begins
    with `<c` is the cell's own XML.
    """
    numbers = range(1, len(sheets) + 1)
    state = {name: ' state="hidden"' if name in hidden else "" for name in sheets}
    listed = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{i}"{state[name]} r:id="rId{i}"/>'
        for i, name in zip(numbers, sheets, strict=True)
    )
    related = "".join(
        f'<Relationship Id="rId{i}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>' for i in numbers
    )
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">{related}</Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
        '<xf numFmtId="9"/></cellXfs></styleSheet>',
    }
    for i, rows in zip(numbers, sheets.values(), strict=True):
        body = "".join(
            f'<row r="{number}">{"".join(_xml(number, column, cell) for column, cell in enumerate(row))}</row>'
            for number, row in enumerate(rows, 1)
            if len(row)
        )
        parts[f"xl/worksheets/sheet{i}.xml"] = f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
    return {name: f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode() for name, text in parts.items()}


def place(row: int, column: int) -> str:
    """`C7`, of a row from 1 and a column from 0."""
    letters = ""
    column += 1
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return f"{letters}{row}"


def _xml(row: int, column: int, cell: Any) -> str:
    at = place(row, column)
    style = ""
    if isinstance(cell, tuple):
        cell, style = cell[0], f' s="{cell[1]}"'
    if cell is None or cell == "":
        return ""
    if isinstance(cell, bool):
        return f'<c r="{at}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, int | float):
        return f'<c r="{at}"{style}><v>{cell!r}</v></c>'
    if cell.startswith("<c"):
        return str(cell)
    if cell.startswith("#"):
        return f'<c r="{at}"{style} t="e"><f>B1/A1</f><v>{cell}</v></c>'
    return f'<c r="{at}"{style} t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'


def write_xls(path: Path, sheets: Mapping[str, Rows], *, has_password: bool = False) -> Path:
    """Write sheets of texts and numbers, of at most some 60 KB."""
    bodies = [_sheet(rows) for rows in sheets.values()]
    names = [name.encode("ascii") for name in sheets]
    password = _record(0x2F, struct.pack("<HHH", 1, 1, 1)) if has_password else b""
    start = _record(0x0809, struct.pack("<HHHHII", 0x0600, 5, 0, 0, 0, 0)) + password
    at = len(start) + sum(4 + 8 + len(name) for name in names) + 4
    listed = b""
    for name, body in zip(names, bodies, strict=True):
        listed += _record(0x85, struct.pack("<IBBBB", at, 0, 0, len(name), 0) + name)
        at += len(body)
    return write_ole(path, {"Workbook": start + listed + _record(0x0A, b"") + b"".join(bodies)})


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def _sheet(rows: Rows) -> bytes:
    cells = []
    for row, column, cell in ((i, j, cell) for i, values in enumerate(rows) for j, cell in enumerate(values)):
        where = struct.pack("<HHH", row, column, 0)
        if isinstance(cell, int | float):
            cells.append(_record(0x0203, where + struct.pack("<d", cell)))
        elif cell:
            cells.append(_record(0x0204, where + struct.pack("<HB", len(cell), 0) + cell.encode("latin-1")))
    return _record(0x0809, struct.pack("<HHHHII", 0x0600, 16, 0, 0, 0, 0)) + b"".join(cells) + _record(0x0A, b"")


def write_ole(path: Path, streams: Mapping[str, bytes]) -> Path:
    """Write an OLE file of a few streams."""
    sector, free, end = 512, 0xFFFFFFFF, 0xFFFFFFFE
    padded = [
        content + bytes(-len(content) % sector + (4096 if len(content) < 4096 else 0)) for content in streams.values()
    ]
    counts = [len(content) // sector for content in padded]
    first, starts = 2, []
    for count in counts:
        starts.append(first)
        first += count
    assert first <= 128, "one sector of the table of sectors is all that there is"
    table = [0xFFFFFFFD, end, *chain(*([*range(at + 1, at + n), end] for at, n in zip(starts, counts, strict=True)))]
    table += [free] * (128 - len(table))

    def entry(name: str, kind: int, child: int, right: int, start: int, size: int) -> bytes:
        text = (name + "\0").encode("utf-16-le")
        return struct.pack(
            "<64sHBBIII16sIQQIQ", text, len(text), kind, 1, free, right, child, b"", 0, 0, 0, start, size
        )

    directory = entry("Root Entry", 5, 1, free, end, 0)
    for i, (name, content) in enumerate(zip(streams, padded, strict=True), 1):
        directory += entry(name, 2, free, i + 1 if i < len(streams) else free, starts[i - 1], len(content))
    directory = directory.ljust(sector, b"\0")
    header = struct.pack(
        "<8s16sHHHHH6sIIIIIIIIII",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, b""),
        *(0, 1, 1, 0, 4096, end, 0, end, 0, 0),
    )
    header += struct.pack("<108I", *[free] * 108)
    path.write_bytes(header + struct.pack("<128I", *table) + directory + b"".join(padded))
    return path
