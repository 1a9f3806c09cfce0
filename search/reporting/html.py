"""HTML pages of one file, made of the templates beside this module; they open without network.

Markup stands in the templates alone, and whatever is put into them is escaped. Plotly's program stands in a page
compressed, which makes of 4.8 MB 2.0.
"""

import base64
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

_AS_PART = {
    "full_html": False,
    "include_plotlyjs": False,
    "default_width": "100%",
    "config": {"responsive": True, "displaylogo": False, "plotlyServerURL": ""},
}
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
# Read now: whoever updates the checkout while a search runs changes nothing of its report.
_TEMPLATES = {name: _ENVIRONMENT.get_template(name) for name in _ENVIRONMENT.list_templates(["html"])}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as wide as the page; it scrolls sideways where the page is narrower than `min_width_px`."""

    figure: "Figure"
    height_px: int
    min_width_px: int = 0

    @property
    def html(self) -> str:
        """Markup that draws it; plotly has escaped what it shows."""
        drawn: str = self.figure.to_html(default_height=f"{self.height_px}px", **_AS_PART)
        return drawn


Block = str | Drawing
"""A paragraph or a figure."""


def finished(
    figure: "Figure", axes: tuple[str, str] | None = None, *, height_px: int, min_width_px: int = 0
) -> Drawing:
    """The figure in the look of all, and with titles of its `axes`, x and y.

    The heading above it is its own title, and the legend stands below it, where it covers no button.
    """
    if axes is not None:
        figure.update_xaxes(title_text=axes[0])
        figure.update_yaxes(title_text=axes[1])
    figure.update_xaxes(title_font_size=12)
    figure.update_yaxes(title_font_size=12, automargin=True)
    figure.update_layout(
        title_text="",
        font={"size": 12},
        margin={"l": 64, "r": 16, "t": 36, "b": 100},
        legend={"orientation": "h", "xref": "container", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
    )
    return Drawing(figure=figure, height_px=height_px, min_width_px=min_width_px)


def page(template: str, title: str, **values: object) -> str:
    """The page that a template makes of values."""
    return _TEMPLATES[template].render(title=title, packed_plotly=_packed_plotly(), **values)


def _packed_plotly() -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    # The highest level takes half as long again, for a five-hundredth of the size.
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode()
