"""Choose whole groups whose rows together come nearest to a number of rows, another choice for each seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SLACK = 0.01  # of all rows: sums that are so near to the best are as good, and leave seeds something to choose
_MOST_EXACT = 64  # groups whose sums are all looked at; the others are taken at random as far as they fit


def choose_groups(
    sizes: NDArray[np.int64], wanted: float, *, least: int, most: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return the numbers of some of the groups, ascending, whose `sizes` (G,) add up nearest to `wanted`.

    Sums below `least` or above `most` are not allowed; if there is no other, nothing is returned. Of up to 64 groups
    every sum is looked at. Of more, those that are neither among the 32 largest that fit nor among 32 others are taken
    at random up to half of the way, and what is missing is looked for among the sums of these 64. Sums within a
    hundredth of all rows of the number wanted count as equal, so that other random numbers choose other groups.
    """
    order = random.permutation(len(sizes))
    # Those that fit come last, the largest of them at the very end: small ones are easily found a place for.
    order = order[np.argsort(sizes[order] <= wanted, kind="stable")]
    largest = np.argsort(sizes[order] * (sizes[order] <= wanted), kind="stable")[-_MOST_EXACT // 2 :]
    order = np.concatenate([np.delete(order, largest), order[largest]])
    rest = order[-_MOST_EXACT:]
    taken: list[int] = []
    total = 0
    # Half of what the last groups can make up for stays open.
    room = wanted - min(wanted, float(sizes[rest][sizes[rest] <= wanted].sum())) / 2
    for number in order[:-_MOST_EXACT].tolist():
        if total + int(sizes[number]) <= room:
            taken.append(number)
            total += int(sizes[number])
    parts = _sums(sizes[rest], int(most) - total)
    allowed = [n for n in _ones(parts[-1]) if least <= n + total <= most]
    if not allowed:
        return np.array([], dtype=np.int64)
    nearest = min(abs(n + total - wanted) for n in allowed)
    slack = max(nearest, _SLACK * float(sizes.sum()))
    near = [n for n in allowed if abs(n + total - wanted) <= slack]
    left = near[int(random.integers(len(near)))]
    for place in range(len(rest) - 1, -1, -1):  # backwards, from the sum to the groups that make it up
        size = int(sizes[rest[place]])
        without, within = parts[place] >> left & 1, left >= size and parts[place] >> (left - size) & 1
        if within and (not without or random.random() < wanted / max(1.0, float(sizes.sum()))):
            taken.append(int(rest[place]))
            left -= size
    return np.sort(np.array(taken, dtype=np.int64))


def _sums(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Return for each number of first groups the sums that some of them have, up to `most`, as the bits of a number."""
    mask = (1 << (max(0, most) + 1)) - 1
    found = [1]
    for size in sizes.tolist():
        found.append((found[-1] | found[-1] << size) & mask)
    return found


def _ones(bits: int) -> list[int]:
    """Return the places of the bits that are set, ascending."""
    digits = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) // 8 or 1, "little"), dtype=np.uint8)
    places: list[int] = np.flatnonzero(np.unpackbits(digits, bitorder="little")).tolist()
    return places
