"""FLIP, Flipper and us on the test sets: a panel for each question, seeds as points; for a page, as PNG and SVG."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from datasets.common.files import output
from search.reporting.comparison import Comparison, Entry, Panel, by_value
from search.reporting.html import Drawing, finished
from search.reporting.published import OURS

SPEARMAN = "test Spearman ρ (−1 to 1)"
WHO = "model (who)"
_COLOURS = {"FLIP": "#1f5fa8", "FLIP's recipe": "#7aa7d9", "Flipper": "#d1640a", OURS: "#1b7f4b"}
_OTHERS = "#6b7785"
_INCH_PER_ROW = 0.3
_TITLE_WIDTH = 60  # letters


def drawable(comparisons: Sequence[Comparison]) -> list[Panel]:
    """The panels that hold a test result, with these alone."""
    found = [tested(panel) for comparison in comparisons for panel in comparison.panels]
    return [panel for panel in found if panel.entries]


def tested(panel: Panel) -> Panel:
    """The panel with its test results alone, the lowest first."""
    entries = [entry for entry in panel.entries if entry.spearman is not None]
    return replace(panel, entries=tuple(by_value(entries)[::-1]))


def labels(entries: Sequence[Entry]) -> list[str]:
    """One for each entry, all different: two results of one model may stand in a panel."""
    found: list[str] = []
    for entry in entries:
        name = label = f"{entry.model} ({entry.by}{', train alone' if 'train alone' in entry.source else ''})"
        n = 1
        while label in found:
            n += 1
            label = f"{name} {n}"
        found.append(label)
    return found


def draw(drawn: Panel) -> Drawing:
    """The panel as a figure of a page."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    # Plotly takes some markup in texts, and these may come from others.
    drawing, names = go.Figure(), [*map(escape, labels(drawn.entries))]
    for by in dict.fromkeys(entry.by for entry in drawn.entries):
        rows = [(label, entry) for label, entry in zip(names, drawn.entries, strict=True) if entry.by == by]
        drawing.add_scatter(
            x=[entry.spearman for _, entry in rows],
            y=[label for label, _ in rows],
            error_x={"type": "data", "array": [entry.std or 0.0 for _, entry in rows], "thickness": 1.5, "width": 4},
            text=[escape(entry.source) for _, entry in rows],
            hovertemplate="%{y}: %{x:.3f}<br>%{text}<extra></extra>",
            mode="markers",
            marker={"color": _colour(by), "size": 10},
            name=escape(by),
        )
        seeds = [(label, value) for label, entry in rows for value in entry.seeds]
        if seeds:
            drawing.add_scatter(
                x=[value for _, value in seeds],
                y=[label for label, _ in seeds],
                mode="markers",
                marker={"color": _colour(by), "size": 7, "symbol": "circle-open"},
                name=f"{escape(by)}, each seed",
            )
    drawing.update_yaxes(categoryorder="array", categoryarray=names)
    drawing.update_layout(template="plotly_white")
    return finished(drawing, (SPEARMAN, WHO), height_px=180 + 26 * len(names), min_width_px=720)


def save(found: Sequence[Panel], paths: Sequence[Path]) -> None:
    """Draw all panels below each other into files whose endings say of what kind they are: .png, .svg.

    Raises:
        ImportError: matplotlib is not installed.
        UserError: A file cannot be written.
    """
    from matplotlib.figure import Figure

    heights = [len(one.entries) * _INCH_PER_ROW + 1.2 for one in found]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    all_axes = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, one in zip(all_axes, found, strict=True):
        for row, entry in enumerate(one.entries):
            colour = _colour(entry.by)
            axes.errorbar(entry.spearman, row, xerr=entry.std, fmt="o", color=colour, markersize=7, capsize=3)
            axes.plot(entry.seeds, [row] * len(entry.seeds), "o", markersize=5, markerfacecolor="none", color=colour)
        axes.set_title(textwrap.fill(one.heading, _TITLE_WIDTH), loc="left", fontsize=10, parse_math=False)
        axes.set_yticks(range(len(one.entries)), labels(one.entries), fontsize=9, parse_math=False)
        axes.set_ylim(-0.7, len(one.entries) - 0.3)
        axes.set_xlabel(SPEARMAN, fontsize=9)
        axes.set_ylabel(WHO, fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    figure.supxlabel("filled: mean, or published value; open: single seeds; bars: deviation between seeds", fontsize=9)
    for path in paths:
        with output(path, "wb") as file:
            figure.savefig(file, format=path.suffix.removeprefix("."), dpi=150)


def _colour(by: str) -> str:
    return _COLOURS.get(by, _OTHERS)
