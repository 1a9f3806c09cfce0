"""Where candidates and controls stand: the wells of one plate or several."""

from dataclasses import dataclass

_SHAPES = {96: (8, 12), 384: (16, 24)}
"""Rows and columns of a plate of so many wells."""
_ROWS = "ABCDEFGHIJKLMNOP"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A well, `A1`, of a plate, counted from 1; both None where nobody asked. control: its number, from 0, if one."""

    plate: int | None = None
    well: str | None = None
    control: int | None = None


def places(batch: int, controls: int, plate: int | None) -> list[Place]:
    """The wells of a batch, in the order of its rows: plate by plate, row by row, `A1, A2, ...`.

    Controls stand in the same wells of each plate, from the top of its last column down (`A12`, `B12`, ... of 96), then
    in the column before it; candidates in all other wells. Without a `plate` the controls come last.
    """
    if plate is None:
        some = [Place() for _ in range(batch - controls)]
        return some + [Place(control=number) for number in range(controls)]
    n_rows, n_columns = _SHAPES[plate]
    of_controls = {
        (number % n_rows, n_columns - 1 - number // n_rows): number for number in range(controls)
    }  # by row and column
    found: list[Place] = []
    for number in range(-(-batch // plate)):
        n_candidates = min(plate, batch - number * plate) - controls
        for row in range(n_rows):
            for column in range(n_columns):
                control = of_controls.get((row, column))
                if control is None:
                    n_candidates -= 1
                    if n_candidates < 0:
                        continue
                found.append(Place(plate=number + 1, well=f"{_ROWS[row]}{column + 1}", control=control))
    return found
