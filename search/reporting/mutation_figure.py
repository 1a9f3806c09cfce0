"""The map of single mutations as a figure: for a page, as PNG and SVG.

Long proteins are wrapped: each row of a figure shows fifty positions. Blue and red are told apart by people who are
blind to red or green, and white is no effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.mutation_map import RESIDUES, MutationMap
from datasets.common.errors import UserError
from datasets.common.files import output
from search.reporting.html import Block, Drawing, finished, page

TITLE = "Predicted effect of single mutations"
FIGURES = (".html", ".png", ".svg")
_PER_ROW = 50  # positions
_ORDER = "GAVLIMPFWYCSTNQHKRDE"  # residues that are alike stand together
_COLUMNS = [RESIDUES.index(residue) for residue in _ORDER]
_POSITIONS, _RESIDUES = "position (residue of the wild type, number)", "mutated to (residue)"
_RELEVANCE = "relevance<br>(no unit)"
_COLOURS, _EMPTY = "RdBu", "#d5d9de"
_PERCENTILE = 99.0
_CELL_PX, _GAP_PX, _BARS_PX = 15, 84, 48


def check_figure(path: Path) -> None:
    """Refuse a figure that could not be drawn. Raises a UserError."""
    if path.suffix.lower() not in FIGURES:
        raise UserError(f"--figure {path} ends in none of {', '.join(FIGURES)}: name a file that says its format.")
    if path.suffix.lower() != ".html" and find_spec("matplotlib") is None:
        raise UserError(
            f"--figure {path} needs matplotlib, which is not installed: pip install matplotlib, or name a file.html."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """Fifty positions or fewer (p): arrays are (20, p), residues in the order of `_ORDER`."""

    labels: list[str]
    effect: NDArray[np.float32]
    measured: NDArray[np.float32]
    is_wild_type: NDArray[np.bool_]
    relevance: NDArray[np.float64] | None


def describe(drawn: MutationMap) -> list[str]:
    """Say what the map shows, in sentences."""
    models = "1 model" if drawn.n_models == 1 else f"the mean of {drawn.n_models} models"
    n = int(drawn.effect.size - drawn.is_wild_type.sum())
    own = f"{drawn.prediction:.4g}"
    if drawn.measured is not None and np.isfinite(drawn.measured.wild_type):
        own += f" (measured: {drawn.measured.wild_type:.4g})"
    marks = "a cross marks the wild type's own residue"
    if drawn.measured is not None:
        marks += f", a dot the {drawn.is_measured.sum():,} mutants that were measured in training or validation rows"
    sentences = [
        f"{n:,} single mutants: the prediction of the mutant minus that of the wild type, in {drawn.units} ({models}). "
        f"The wild type is predicted at {own}. Blue is above the wild type and red below; {marks}.",
        *drawn.remarks,
    ]
    n_beyond = int((np.abs(drawn.effect) > _limit(drawn)).sum())
    if n_beyond:
        sentences.append(f"Colours end at ±{_limit(drawn):.3g}: {n_beyond:,} effects lie beyond.")
    if drawn.measured is None:
        sentences.append("Measured mutants are not marked, for the training data was not looked at.")
    if drawn.relevance is not None:
        sentences.append("The bars are the kernel's relevance of each position; 1 is what it is before training.")
    return sentences


def draw(drawn: MutationMap) -> Drawing:
    """The map as a figure of a page."""
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]

    rows = list(_rows(drawn))
    heights = [_CELL_PX * len(_ORDER)] * len(rows)
    if drawn.relevance is not None:
        heights = [height for pair in zip([_BARS_PX] * len(rows), heights, strict=True) for height in pair]
    n_panels = len(heights)
    inside = sum(heights) + _GAP_PX * (n_panels - 1)
    named: set[str] = set()
    figure = make_subplots(rows=n_panels, cols=1, row_heights=heights, vertical_spacing=_GAP_PX / inside)
    for number, row in enumerate(rows, start=1):
        panel = number if drawn.relevance is None else 2 * number
        for trace in _traces(row, drawn.prediction, named):
            figure.add_trace(trace, row=panel, col=1)
        figure.update_xaxes(title_text=_POSITIONS, row=panel, col=1)
        figure.update_yaxes(title_text=_RESIDUES, range=[len(_ORDER) - 0.5, -0.5], row=panel, col=1)
        if row.relevance is not None:
            bars = {"x": row.labels, "y": row.relevance, "marker_color": "#555", "showlegend": False}
            figure.add_bar(**bars, hovertemplate="%{x}: relevance %{y:.3g}<extra></extra>", row=panel - 1, col=1)
            figure.update_xaxes(title_text=_POSITIONS, row=panel - 1, col=1)
            figure.update_yaxes(title_text=_RELEVANCE, range=[0, _highest(drawn)], row=panel - 1, col=1)
    figure.update_xaxes(
        type="category", range=[-0.5, min(_PER_ROW, len(drawn.wild_type)) - 0.5], tickangle=-90, dtick=1,
        tickfont_size=10, showgrid=False,
    )  # fmt: skip
    figure.update_yaxes(tickfont_size=10, showgrid=False, zeroline=False)
    limit, most_px = _limit(drawn), _CELL_PX * len(_ORDER)
    figure.update_layout(
        template="plotly_white",
        plot_bgcolor=_EMPTY,
        coloraxis={
            "colorscale": _COLOURS,
            "cmin": -limit,
            "cmid": 0,
            "cmax": limit,
            "colorbar": {
                "title": {"text": f"effect ({drawn.units})", "side": "right"},
                "lenmode": "pixels",
                "len": most_px,
                "y": 1,
                "yanchor": "top",
            },
        },
    )
    return finished(figure, height_px=inside + 136, min_width_px=1000 if len(drawn.wild_type) > 20 else 480)


def save(drawn: MutationMap, path: Path, about: str) -> None:
    """Write the map as a page or picture, by its ending, which is one of `FIGURES`; `about` says of what it is.

    Raises:
        ImportError: matplotlib, with which pictures are drawn, is not installed.
        UserError: The file cannot be written.
    """
    if path.suffix.lower() == ".html":
        blocks: list[Block] = [about, *describe(drawn), draw(drawn)]
        with output(path, option="--figure") as file:
            file.write(page("mutation_map.html", TITLE, blocks=blocks))
        return
    import matplotlib
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    title = {"Title": f"{TITLE}: {about}"}
    # The words of an SVG stay words, which can be searched and read aloud; neither its date nor its ids are of now.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flipsearch"}),
        output(path, "wb", option="--figure") as file,
    ):
        figure = Figure(layout="constrained")
        _picture(drawn, figure, about)
        metadata = {**title, "Date": None} if kind == "svg" else title
        figure.savefig(file, format=kind, dpi=150, metadata=metadata)


def _picture(drawn: MutationMap, figure: Any, about: str) -> None:
    """Draw the map into a figure of matplotlib's."""
    import matplotlib

    rows, limit = list(_rows(drawn)), _limit(drawn)
    heights = [5.0 if drawn.relevance is None else 6.0] * len(rows)
    figure.set_size_inches(13.0 if len(drawn.wild_type) > 20 else 7.0, 1.2 + sum(heights) * 0.75)
    outer = figure.subplots(len(rows) * (1 if drawn.relevance is None else 2), 1, squeeze=False,
        height_ratios=[5] * len(rows) if drawn.relevance is None else [1, 5] * len(rows))[:, 0]  # fmt: skip
    colours = matplotlib.colormaps[_COLOURS].with_extremes(bad=_EMPTY)
    for number, row in enumerate(rows):
        axes = outer[number if drawn.relevance is None else 2 * number + 1]
        image = axes.imshow(row.effect, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", interpolation="none")
        for where, shape in ((row.is_wild_type, "x"), (np.isfinite(row.measured) & ~row.is_wild_type, "o")):
            down, across = np.nonzero(where)
            style = {"markersize": 4, "color": "black", "markeredgecolor": "black" if shape == "x" else "white"}
            axes.plot(across, down, shape, markeredgewidth=0.8, linestyle="none", **style)
        axes.set_xticks(range(len(row.labels)), row.labels, rotation=90, fontsize=7)
        axes.set_yticks(range(len(_ORDER)), list(_ORDER), fontsize=7)
        axes.set_xlim(-0.5, min(_PER_ROW, len(drawn.wild_type)) - 0.5)
        axes.set_xlabel(_POSITIONS, fontsize=9)
        axes.set_ylabel(_RESIDUES, fontsize=9)
        if row.relevance is not None:
            bars = outer[2 * number]
            bars.bar(range(len(row.labels)), np.nan_to_num(row.relevance), color="#555555")
            bars.set_xlim(axes.get_xlim())
            bars.set_ylim(0, _highest(drawn))
            bars.set_xticks([])
            bars.set_ylabel(_RELEVANCE.replace("<br>", "\n"), fontsize=7)
    ends = "both" if (np.abs(drawn.effect) > limit).any() else "neither"
    bar = figure.colorbar(image, ax=list(outer), extend=ends, shrink=min(1.0, 4 / len(rows)), anchor=(0.0, 1.0))
    bar.set_label(f"effect ({drawn.units})".replace("$", r"\$"), fontsize=9)
    figure.suptitle(f"{TITLE}\n{about}\ncross: wild type; dot: measured".replace("$", r"\$"), fontsize=10)


def _rows(drawn: MutationMap) -> Iterator[_Row]:
    labels, measured = drawn.labels, np.full(drawn.effect.shape, np.nan, dtype=np.float32)
    if drawn.measured is not None:
        measured = drawn.measured.singles
    for first in range(0, len(labels), _PER_ROW):
        some = slice(first, first + _PER_ROW)
        yield _Row(
            labels=labels[some],
            effect=drawn.effect[some][:, _COLUMNS].T,
            measured=measured[some][:, _COLUMNS].T,
            is_wild_type=drawn.is_wild_type[some][:, _COLUMNS].T,
            relevance=None if drawn.relevance is None else drawn.relevance[some],
        )


def _limit(drawn: MutationMap) -> float:
    """Where colours end: few extreme effects do not make all others pale."""
    sizes = np.abs(drawn.effect[np.isfinite(drawn.effect) & ~drawn.is_wild_type])
    if not len(sizes) or not sizes.max():
        return 1.0
    return float(np.percentile(sizes, _PERCENTILE)) or float(sizes.max())


def _highest(drawn: MutationMap) -> float:
    """Where the bars of relevances end, in every row."""
    known = np.nan_to_num(drawn.relevance if drawn.relevance is not None else np.zeros(1))
    return float(known.max()) * 1.05 or 1.0


def _traces(row: _Row, prediction: float, named: set[str]) -> Iterator[Any]:
    """The cells of a row, each kind with its own words, and the marks on them; those `named` are in the legend."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    is_measured = np.isfinite(row.measured) & ~row.is_wild_type
    words = "%{x}%{y}: effect %{z:+.4g}"
    kinds = (
        (~is_measured & ~row.is_wild_type, words, None),
        (is_measured, f"{words}<br>measured %{{customdata:.4g}}", row.measured),
        (row.is_wild_type, f"%{{x}}: wild type, predicted {prediction:.4g}", None),
    )
    for where, hover, beside in kinds:
        if where.any():
            yield go.Heatmap(
                x=row.labels,
                y=list(_ORDER),
                z=np.where(where, row.effect, np.float32(np.nan)),
                customdata=beside,
                coloraxis="coloraxis",
                hoverongaps=False,
                hovertemplate=f"{hover}<extra></extra>",
                xgap=1,
                ygap=1,
            )
    marks: tuple[tuple[NDArray[np.bool_], str, dict[str, Any]], ...] = (
        (row.is_wild_type, "wild type", {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": "black"}}),
        (is_measured, "measured", {"size": 5, "color": "black", "line": {"width": 1, "color": "white"}}),
    )
    for where, name, marker in marks:
        down, across = np.nonzero(where)
        if not len(down):
            continue
        yield go.Scatter(
            x=[row.labels[place] for place in across],
            y=[_ORDER[place] for place in down],
            mode="markers",
            marker=marker,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            hoverinfo="skip",
        )
        named.add(name)
