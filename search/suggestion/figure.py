"""Where a batch lies: predictions against how far off they may be, or against each other; the chosen positions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.files import output
from search.reporting.html import Block, Drawing, finished, page
from search.suggestion.plate import NextPlate

TITLE = "The next plate"
_POSITIONS, _COUNTS = "position (residue of the wild type, number)", "candidates mutated there"
_GREY, _BLUE, _ORANGE = "#b4bcc6", "#1f5fa8", "#d1640a"
_MOST_POSITIONS = 60
"""That are drawn: of more, those with the most candidates."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scatter:
    """Points of candidates. axes: what they are. others: (n, 2), not picked. batch: (k, 2), with their `words`.

    best: what was measured at best, by the first axis and the second; None of an axis without any. shown: of a point
    under the mouse, behind its words.
    """

    axes: tuple[str, str]
    others: NDArray[np.float64]
    batch: NDArray[np.float64]
    words: Sequence[str]
    best: tuple[float | None, float | None]
    shown: str = "%{x:.4g}, %{y:.4g}"


def draw_plate(plate: NextPlate, path: Path, about: str) -> None:
    """Draw a plate into a page or a picture, by the file's ending; `about` says of what it is.

    Raises:
        UserError: The file cannot be written.
    """
    mine = {one.place for one in plate.picked}
    others, batch = (
        np.array([(one.prediction, one.deviation) for one in some], dtype=np.float64).reshape(-1, 2)
        for some in ([one for one in plate.pool if one.place not in mine], plate.picked)
    )
    panel = Scatter(
        axes=(f"prediction ({plate.units})", f"calibrated deviation ({plate.units})"),
        others=others,
        batch=batch,
        words=[well.mutations or well.name or f"candidate {well.rank}" for well in plate.candidates],
        best=(plate.best_value, None),
        shown="%{x:.4g} ± %{y:.3g}",
    )
    n_outside = sum(bool(well.outside) for well in plate.candidates)
    found = [
        f"{len(batch):,} candidates of the batch, and the best {len(others):,} others of "
        f"{plate.n_candidates:,}. The best measured value is {plate.best_value:.4g} ({plate.units})."
    ]
    if n_outside:
        found.append(f"{n_outside:,} of the batch lie outside of what was trained on: their deviations say too little.")
    draw_panels([panel], [well.mutations for well in plate.candidates], found, path, about)


def draw_panels(
    panels: Sequence[Scatter], mutations: Sequence[str], sentences: Sequence[str], path: Path, about: str
) -> None:
    """Draw panels, and how many of a batch with these `mutations` are mutated at each position.

    Raises:
        UserError: The file cannot be written.
    """
    chosen, kind = _chosen(mutations), path.suffix.lower().removeprefix(".")
    if kind == "html":
        n_positions = len(_counts(mutations))
        few = f"Of {n_positions:,} positions the {_MOST_POSITIONS} with the most candidates are drawn."
        blocks: list[Block] = [about, *sentences, *([few] if n_positions > _MOST_POSITIONS else [])]
        blocks += map(_points, panels)
        if chosen:
            blocks.append(_bars(chosen))
        with output(path, option="--figure") as file:
            file.write(page("mutation_map.html", TITLE, blocks=blocks))
        return
    import matplotlib
    from matplotlib.figure import Figure

    title = {"Title": f"{TITLE}: {about}"}
    # The words of an SVG stay words; neither its date nor its ids are of now.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "flipsearch"}),
        output(path, "wb", option="--figure") as file,
    ):
        figure = Figure(figsize=(9, 4 * (len(panels) + 1)), layout="constrained")
        _picture(panels, chosen, figure, about)
        figure.savefig(file, format=kind, dpi=150, metadata={**title, "Date": None} if kind == "svg" else title)


def _kinds(panel: Scatter) -> list[tuple[str, str, Sequence[str], NDArray[np.float64]]]:
    """Name, colour, words and places (n, 2) of the points: candidates that were not picked, and those that were."""
    nothing = [""] * len(panel.others)
    return [("other candidates", _GREY, nothing, panel.others), ("the batch", _BLUE, panel.words, panel.batch)]


def _counts(mutations: Sequence[str]) -> Counter[str]:
    """How many candidates are mutated at a position, `V39`, or `H:V39` in a chain."""
    found: Counter[str] = Counter()
    for words in mutations:
        chain = ""
        for word in words.split(":"):
            if len(word) == 1:
                chain = f"{word}:"
            elif word not in ("", "WT"):
                found[chain + word[:-1]] += 1
    return found


def _chosen(mutations: Sequence[str]) -> list[tuple[str, int]]:
    """The positions in their order, with their counts."""

    def place(one: tuple[str, int]) -> tuple[str, int]:
        chain, _, position = one[0].rpartition(":")
        return chain, int(position[1:])

    return sorted(_counts(mutations).most_common(_MOST_POSITIONS), key=place)


def _points(panel: Scatter) -> Drawing:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    drawing = go.Figure()
    for name, colour, words, places in _kinds(panel):
        drawing.add_scattergl(
            x=places[:, 0],
            y=places[:, 1],
            text=list(words),
            mode="markers",
            name=name,
            marker={"color": colour, "size": 8 if colour == _BLUE else 5},
            hovertemplate=f"%{{text}} {panel.shown}<extra></extra>",
        )
    line = {"line": {"color": _ORANGE, "dash": "dash"}, "annotation_text": "best measured"}
    if panel.best[0] is not None:
        drawing.add_vline(x=panel.best[0], **line)
    if panel.best[1] is not None:
        drawing.add_hline(y=panel.best[1], **line)
    drawing.update_layout(template="plotly_white")
    return finished(drawing, panel.axes, height_px=460)


def _bars(chosen: list[tuple[str, int]]) -> Drawing:
    import plotly.graph_objects as go

    drawing = go.Figure()
    drawing.add_bar(x=[name for name, _ in chosen], y=[n for _, n in chosen], marker_color=_BLUE)
    drawing.update_xaxes(type="category", tickangle=-90)
    drawing.update_layout(template="plotly_white")
    return finished(drawing, (_POSITIONS, _COUNTS), height_px=320)


def _picture(panels: Sequence[Scatter], chosen: list[tuple[str, int]], figure: Any, about: str) -> None:
    """Draw into a figure of matplotlib's."""
    every = figure.subplots(len(panels) + bool(chosen), 1, squeeze=False)[:, 0]
    for panel, axes in zip(panels, every, strict=False):
        for name, colour, _, places in _kinds(panel):
            axes.plot(*places.T, "o", color=colour, markersize=5 if colour == _BLUE else 3, label=name)
        if panel.best[0] is not None:
            axes.axvline(panel.best[0], color=_ORANGE, linestyle="--", label="best measured")
        if panel.best[1] is not None:
            axes.axhline(panel.best[1], color=_ORANGE, linestyle="--")
        axes.legend(fontsize=8)
        for axis, words in zip("xy", panel.axes, strict=True):
            getattr(axes, f"set_{axis}label")(words.replace("$", r"\$"), fontsize=9)
    for axes in every[len(panels) :]:
        axes.bar(range(len(chosen)), [n for _, n in chosen], color=_BLUE)
        axes.set_xticks(range(len(chosen)), [name for name, _ in chosen], rotation=90, fontsize=7)
        axes.set_xlabel(_POSITIONS, fontsize=9)
        axes.set_ylabel(_COUNTS, fontsize=9)
    figure.suptitle(f"{TITLE}: {about}".replace("$", r"\$"), fontsize=10)
