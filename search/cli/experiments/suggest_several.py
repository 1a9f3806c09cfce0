"""What the suggest command says of a plate that was picked by several properties, or by what is required."""

from collections import Counter
from typing import TYPE_CHECKING

from search.request.suggest_request import SuggestRequest

if TYPE_CHECKING:
    from search.suggestion.several import PropertiesPlate


def lines_of_several(request: SuggestRequest, found: "PropertiesPlate", seconds: float) -> list[str]:
    """The lines, one for each thing that whoever measures the plate should know."""
    picked = found.candidates
    left_out = found.n_known + found.n_tested
    lines = [
        f"{found.n_candidates:,} candidates in {seconds:.1f} s; {left_out:,} were measured for some property already "
        f"and are left out ({found.n_known:,} in training and validation, {found.n_tested:,} in a test set)."
    ]
    lines += unfilled(request, len(picked), found.n_wanted, found.n_candidates - left_out)
    n_controls, n_plates = len(found.wells) - len(picked), found.wells[-1]["plate"]
    where = f" on {counted(n_plates, 'plate')}" if n_plates else ""
    by = f", of {request.acquisition}" * (request.acquisition in ("ucb", "thompson"))
    fronts = Counter(well["front"] for well in picked if "front" in well)
    shown = ", ".join(f"front {front}: {n}" for front, n in sorted(fronts.items())[:5])
    last = f" ({shown}{', ...' * (len(fronts) > 5)})" * bool(fronts)
    candidates = f"{counted(len(picked), 'candidate')} and {counted(n_controls, 'control')}"
    lines.append(f"Picked by {found.by}{by}{last}: {candidates}{where}.")
    if request.require and picked:
        chances = [well["p_required"] for well in picked]
        lines.append(
            f"Chance to meet what is required: {max(chances):.3f} at most, {min(chances):.3f} at least; "
            f"{sum(chances):.1f} of {len(picked):,} candidates are expected to."
        )
    for one in found.properties:
        ending = f"_{one.name}" if len(found.properties) > 1 else ""
        highest = max(well[f"prediction{ending}"] for well in picked)
        n_outside = sum(bool(well[f"outside{ending}"]) for well in picked)
        lines.append(
            f"{one.name}: highest prediction {highest:.4g}, best measured {found.best[one.name]:.4g} ({one.units})"
            f"; {n_outside:,} of {len(picked):,} candidates lie outside of what was trained on."
        )
        lines.append(f"{one.name}: {found.intervals[one.name]}")
    if request.output is not None:
        lines.append(f"Plate: {request.output} (made of: {request.output.with_suffix('.json')})")
    if request.figure is not None:
        lines.append(f"Figure: {request.figure}")
    return lines


def unfilled(request: SuggestRequest, n_picked: int, n_wanted: int, n_all: int) -> list[str]:
    """Why not all wells for candidates are filled, of which there were `n_all`; nothing where they are."""
    if n_picked >= n_wanted:
        return []
    has_limits = request.max_per_position is not None or request.min_distance is not None
    is_limited = has_limits and n_picked < n_all
    why = "no other candidate keeps to what was asked of the batch" if is_limited else "there are no more candidates"
    return [f"Only {n_picked:,} of {n_wanted:,} wells for candidates are filled: {why}."]


def counted(n: int, what: str) -> str:
    """`1 plate`, `1,024 candidates`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
