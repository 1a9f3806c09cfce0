"""Which positions matter to a trained kernel, as the weights of its folds say it; read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from datasets.batches.window import LengthLimit, place_windows
from datasets.task import Task
from models.layers.relevance_prior import RELEVANCE_ROWS


@dataclass(frozen=True, kw_only=True, eq=False)
class Relevances:
    """Those of the P positions that varied among the training sequences that were looked at.

    position: (P,) in the whole sequence, numbered as the task's mutations are. residue: the wild type's at each, ""
    where that is not known. value: (P,) the weight of the position in the kernel's distance, without a unit: the
    geometric mean of the members that looked at it, which are folds or seeds. low and high: (P,) their smallest and
    largest.
    called: (P) what the positions are called where they are in chains; `position` counts through these.
    n_members: how many models. n_rows: the training sequences that each looked at, at least. has_gaps: whether some of
    these sequences are shorter than others, so that a position may be another one in them.
    """

    position: NDArray[np.int64]
    residue: tuple[str, ...]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_members: int
    n_rows: int
    has_gaps: bool
    called: tuple[str, ...] = ()

    @property
    def order(self) -> NDArray[np.int64]:
        """The places (P,) of the positions, the highest relevance first."""
        return np.argsort(-self.value, kind="stable")

    @property
    def names(self) -> list[str]:
        """`V39`, of each position; in a chain `V H39`."""
        if self.called:
            return [f"{residue} {name}" for residue, name in zip(self.residue, self.called, strict=True)]
        return [f"{residue}{place}" for residue, place in zip(self.residue, self.position.tolist(), strict=True)]


def read_relevances(
    weights: Sequence[Path], task: Task, crop: str | None, max_length: int | None = None
) -> Relevances | None:
    """What files of weights say, one for each member; None where one is missing, damaged, or without relevances.

    Args:
        weights: as `search.training.weights` writes them.
        task: of the run.
        crop: what the run's model saw of a sequence, by its name among the task's.
        max_length: to how many residues the run cut what the crop left (`data.max_length`).

    Raises:
        UserError: The task has no such crop, or no place for so few residues.
    """
    members = [_read(path) for path in weights]
    found = [member for member in members if member is not None]
    if not found or len(found) < len(members):
        return None
    length = max(len(relevance) for relevance, _ in found)
    values = np.full((len(found), length), np.nan)
    for member, (relevance, tokens) in zip(values, found, strict=True):
        varies = np.flatnonzero((tokens != tokens[:1]).any(axis=0))
        member[varies] = relevance[varies]
    places = np.flatnonzero(np.isfinite(values).any(axis=0))
    values = values[:, places]
    wild_type = task.wild_type or ""
    limit = LengthLimit(max_length=max_length, max_residues=None, truncate=True)  # refused when it trained, if at all
    n_residues = np.array([len(wild_type) or np.iinfo(np.int32).max])
    first = int(place_windows(n_residues, task=task, crop=crop, limit=limit)[0][0])
    position = places + first
    return Relevances(
        position=position + task.first_position,
        residue=tuple(wild_type[place : place + 1] for place in position.tolist()),
        value=np.exp(np.nanmean(np.log(values), axis=0)),
        low=np.nanmin(values, axis=0),
        high=np.nanmax(values, axis=0),
        n_members=len(found),
        n_rows=min(len(tokens) for _, tokens in found),
        called=() if task.chains is None else tuple(map(task.position, position.tolist())),
        has_gaps=any(bool((tokens == 0).any()) for _, tokens in found),
    )


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]] | None:
    """Relevances (L,) of a model, and the training sequences (N, L) that they were found from."""
    try:
        with safe_open(path, framework="numpy") as file:
            relevance, tokens = file.get_tensor("relevance"), file.get_tensor("train_tokens")[:RELEVANCE_ROWS]
    except (OSError, SafetensorError):
        return None
    is_whole = relevance.ndim == 1 and tokens.ndim == 2 and len(tokens) and tokens.shape[1] == len(relevance)
    if not is_whole or relevance.dtype != np.float64 or not (np.isfinite(relevance) & (relevance > 0)).all():
        return None
    return relevance, tokens
