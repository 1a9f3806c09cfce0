"""Where a batch lies: predictions against how far off they may be, and the positions that were chosen."""

from collections import Counter
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


def draw_plate(plate: NextPlate, path: Path, about: str) -> None:
    """Draw a plate into a page or a picture, by the file's ending; `about` says of what it is.

    Raises:
        UserError: The file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind == "html":
        blocks: list[Block] = [about, *_sentences(plate), _points(plate)]
        if drawn := _chosen(plate):
            blocks.append(_bars(drawn))
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
        figure = Figure(figsize=(9, 8), layout="constrained")
        _picture(plate, figure, about)
        figure.savefig(file, format=kind, dpi=150, metadata={**title, "Date": None} if kind == "svg" else title)


def _sentences(plate: NextPlate) -> list[str]:
    n_outside = sum(bool(well.outside) for well in plate.candidates)
    found = [
        f"{len(plate.candidates):,} candidates of the batch among the best {len(plate.pool):,} of "
        f"{plate.n_candidates:,}. The best measured value is {plate.best_value:.4g} ({plate.units})."
    ]
    if n_outside:
        found.append(f"{n_outside:,} of the batch lie outside of what was trained on: their deviations say too little.")
    if len(_counts(plate)) > _MOST_POSITIONS:
        found.append(f"Of {len(_counts(plate)):,} positions the {_MOST_POSITIONS} with the most candidates are drawn.")
    return found


def _axes(plate: NextPlate) -> tuple[str, str]:
    return f"prediction ({plate.units})", f"calibrated deviation ({plate.units})"


def _kinds(plate: NextPlate) -> list[tuple[str, str, list[str], NDArray[np.float64]]]:
    """Name, colour, words and places (n, 2) of the points: candidates that were not picked, and those that were."""
    batch = {well.sequence: well.mutations or well.name or f"candidate {well.rank}" for well in plate.candidates}
    found = []
    for name, colour, is_picked in (("other candidates", _GREY, False), ("the batch", _BLUE, True)):
        some = [one for one in plate.pool if (one.sequence in batch) is is_picked]
        places = np.array([(one.prediction, one.deviation) for one in some], dtype=np.float64).reshape(-1, 2)
        found.append((name, colour, [batch.get(one.sequence, "") for one in some], places))
    return found


def _counts(plate: NextPlate) -> Counter[str]:
    """How many candidates are mutated at a position, `V39`."""
    mutations = (one for well in plate.candidates for one in well.mutations.split(":") if one not in ("", "WT"))
    return Counter(one[:-1] for one in mutations)


def _chosen(plate: NextPlate) -> list[tuple[str, int]]:
    """The positions in their order, with their counts."""
    return sorted(_counts(plate).most_common(_MOST_POSITIONS), key=lambda one: int(one[0][1:]))


def _points(plate: NextPlate) -> Drawing:
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    drawing = go.Figure()
    for name, colour, words, places in _kinds(plate):
        drawing.add_scattergl(
            x=places[:, 0],
            y=places[:, 1],
            text=words,
            mode="markers",
            name=name,
            marker={"color": colour, "size": 8 if colour == _BLUE else 5},
            hovertemplate="%{text} %{x:.4g} ± %{y:.3g}<extra></extra>",
        )
    drawing.add_vline(x=plate.best_value, line={"color": _ORANGE, "dash": "dash"}, annotation_text="best measured")
    drawing.update_layout(template="plotly_white")
    return finished(drawing, _axes(plate), height_px=460)


def _bars(chosen: list[tuple[str, int]]) -> Drawing:
    import plotly.graph_objects as go

    drawing = go.Figure()
    drawing.add_bar(x=[name for name, _ in chosen], y=[n for _, n in chosen], marker_color=_BLUE)
    drawing.update_xaxes(type="category", tickangle=-90)
    drawing.update_layout(template="plotly_white")
    return finished(drawing, (_POSITIONS, _COUNTS), height_px=320)


def _picture(plate: NextPlate, figure: Any, about: str) -> None:
    """Draw into a figure of matplotlib's."""
    chosen = _chosen(plate)
    upper, *lower = figure.subplots(2 if chosen else 1, 1, squeeze=False)[:, 0]
    for name, colour, _, places in _kinds(plate):
        upper.plot(*places.T, "o", color=colour, markersize=5 if colour == _BLUE else 3, label=name)
    upper.axvline(plate.best_value, color=_ORANGE, linestyle="--", label="best measured")
    upper.legend(fontsize=8)
    for axis, words in zip("xy", _axes(plate), strict=True):
        getattr(upper, f"set_{axis}label")(words.replace("$", r"\$"), fontsize=9)
    for axes in lower:
        axes.bar(range(len(chosen)), [n for _, n in chosen], color=_BLUE)
        axes.set_xticks(range(len(chosen)), [name for name, _ in chosen], rotation=90, fontsize=7)
        axes.set_xlabel(_POSITIONS, fontsize=9)
        axes.set_ylabel(_COUNTS, fontsize=9)
    figure.suptitle(f"{TITLE}: {about}".replace("$", r"\$"), fontsize=10)
