"""An HTML page of one file: text, tables and plotly's figures; it opens without network.

Markup is made here alone, and whatever is put into it is escaped. The browser is told to load nothing besides the page.
Plotly's program stands in it compressed, which makes of 4.8 MB 2.0.
"""

import base64
import gzip
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

# Scripts and styles stand in the page; pictures are those that plotly makes for its camera button.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; margin: 0 auto; max-width: 1180px;
       padding: 0 16px 48px; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 28px 0 8px; }
h2 { font-size: 1.2rem; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid #d6dde5; }
p { margin: 8px 0; max-width: 75ch; }
p.warning { background: #fff3d6; border-left: 4px solid #c98a00; padding: 8px 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 4px 20px 4px 0; border-bottom: 1px solid #e7ecf1; }
th { font-weight: 600; white-space: nowrap; }
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 30ch; max-width: 70ch; }
pre { background: #f4f6f8; padding: 12px; overflow-x: auto; font-size: 0.85rem; line-height: 1.4; }
summary { cursor: pointer; margin: 8px 0; }
"""
# Figures stand above the program that draws them. They ask for it before it is unpacked: what they ask is kept for it.
_STUB = "window.waiting = []; window.Plotly = {newPlot: (...words) => waiting.push(words)};"
_UNPACK = """
(async () => {
  try {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), letter => letter.charCodeAt(0));
    const text = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const program = document.createElement("script");
    program.textContent = await text;
    document.head.append(program);
    for (const words of waiting) Plotly.newPlot(...words);
  } catch (error) {
    for (const place of document.querySelectorAll(".figure"))
      place.textContent = `This browser cannot draw the figure (${error}): open the page in one of 2023 or later.`;
  }
})();
"""
_LONG = 40  # characters of a cell that is broken into lines
_CONFIG = {"responsive": True, "displaylogo": False, "plotlyServerURL": ""}


@dataclass(frozen=True)
class Markup:
    """HTML that may stand in a page as it is."""

    text: str


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup(f"<p>{html.escape(text)}</p>")


def warning(text: str) -> Markup:
    """A paragraph that is not to be overlooked."""
    return Markup(f'<p class="warning">{html.escape(text)}</p>')


def code(text: str) -> Markup:
    """Text in lines, as it is."""
    return Markup(f"<pre>{html.escape(text)}</pre>")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table that scrolls sideways where the page is narrower."""
    head = "".join(f'<th scope="col">{html.escape(header)}</th>' for header in headers)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return Markup(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _cell(text: str) -> str:
    return f"<td{' class=long' if len(text) > _LONG else ''}>{html.escape(text)}</td>"


def folded(summary: str, *blocks: Markup) -> Markup:
    """What is shown at a click."""
    inside = "".join(block.text for block in blocks)
    return Markup(f"<details><summary>{html.escape(summary)}</summary>{inside}</details>")


def figure(drawing: "Figure", *, height_px: int, min_width_px: int = 0) -> Markup:
    """A figure as wide as the page; it scrolls sideways where the page is narrower than `min_width_px`."""
    drawn = drawing.to_html(
        full_html=False, include_plotlyjs=False, config=_CONFIG, default_width="100%", default_height=f"{height_px}px"
    )
    style = f"min-width: {min_width_px}px; height: {height_px}px"
    return Markup(f'<div class="scroll"><div class="figure" style="{style}">{drawn}</div></div>')


def section(title: str, *blocks: Markup) -> Markup:
    """A heading and what belongs to it."""
    return Markup(
        "\n".join([f"<section><h2>{html.escape(title)}</h2>", *(block.text for block in blocks), "</section>"])
    )


def page(title: str, *blocks: Markup) -> str:
    """The whole page, plotly's program included once."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
            f"<script>{_STUB}</script></head><body>",
            f"<h1>{html.escape(title)}</h1>",
            *(block.text for block in blocks),
            f'<script type="text/plain" id="plotly">{_packed_plotly()}</script><script>{_UNPACK}</script>',
            "</body></html>\n",
        ]
    )


def _packed_plotly() -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    # The highest level takes half as long again, for a five-hundredth of the size.
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode()
