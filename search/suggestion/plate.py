"""The next plate: its wells, and how they were come by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from datasets.candidates.candidates import Candidates, residues_of
from datasets.task import Task
from search.suggestion.pool import Pick, unpredicted
from search.suggestion.wells import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Well:
    """What is measured in a well; `pandas.DataFrame(plate.wells)` makes a table of several.

    rank: of a candidate, 1 was picked first; None of a control. plate, well: `1` and `A1`; None where nobody asked.
    mutations: `V39A:D40G`, `WT` of the wild type; empty where none is known, or of sequences of another length.
    prediction: in the assay's unit; None of a control for which the model lacks a score, say. low, high,
    std_calibrated: as `predict` says them, None where they say nothing. acquisition: what the candidate was picked by,
    in the unit of the acquisition; None of a control. outside: why the prediction is a leap, empty where it is none.
    name: of the file of candidates.
    """

    rank: int | None
    well: str | None
    plate: int | None
    role: Literal["candidate", "control"]
    sequence: str
    mutations: str
    prediction: float | None
    low: float | None
    high: float | None
    std_calibrated: float | None
    acquisition: float | None
    outside: str
    name: str


@dataclass(frozen=True, kw_only=True)
class NextPlate:
    """A batch that was picked.

    wells: in the order of their rows, plate by plate; without plates the candidates first. n_wanted: how many
    candidates were asked for. n_candidates: how many there were, of which `n_known` stand in training and validation,
    and `n_tested` in the test set, so that they were left out. best_sequence, best_value: the best that was measured in
    training and validation, in `units`. intervals: what low and high are made of, in words. pool: the best candidates
    of the first pass. picked: the candidates of the batch, the one that was picked first first. acquisition: by what.
    spread_by: by what a spread batch is unlike, in words; empty of any other.
    """

    wells: tuple[Well, ...] = field(repr=False)
    n_wanted: int
    n_candidates: int
    n_known: int
    n_tested: int
    best_sequence: str
    best_value: float
    units: str
    intervals: str
    pool: tuple[Pick, ...] = field(repr=False)
    picked: tuple[Pick, ...] = field(repr=False)
    acquisition: str
    spread_by: str = ""

    @property
    def candidates(self) -> tuple[Well, ...]:
        """The wells without the controls, the one that was picked first first."""
        some = [well for well in self.wells if well.rank is not None]
        return tuple(sorted(some, key=lambda well: well.rank or 0))


def filled(places: Sequence[Place], picked: Sequence[Pick], controls: Sequence[Pick], task: Task) -> tuple[Well, ...]:
    """The wells with what stands in them: candidates in the order of their picks, controls in turn.

    Where there are fewer candidates than places, the last places stay empty; so does a plate without any candidate.
    """
    n_picked, n_before = len(picked), 0
    used: list[Place] = []
    for place in places:
        if place.control is None and n_before < n_picked:
            n_before += 1
            used.append(place)
        elif place.control is not None:
            used.append(place)
    with_candidates = {place.plate for place in used if place.control is None}
    return tuple(_wells([one for one in used if one.plate in with_candidates], picked, controls, task))


def named_controls(texts: Sequence[str], task: Task) -> Candidates:
    """Sequences of controls, called by their mutations: a file of embeddings may know them by these alone."""
    residues, lengths = residues_of(texts, lambda text: text, task.aligned_length)
    labels = [_mutations(unpredicted(text, task.wild_type), task) for text in texts]
    return Candidates(labels=labels, residues=residues, lengths=lengths)


def _wells(places: Sequence[Place], picked: Sequence[Pick], controls: Sequence[Pick], task: Task) -> Iterator[Well]:
    rank = 0
    for place in places:
        is_control = place.control is not None
        one = picked[rank] if place.control is None else controls[place.control % len(controls)]
        rank += not is_control
        yield Well(
            rank=None if is_control else rank,
            well=place.well,
            plate=place.plate,
            role="control" if is_control else "candidate",
            sequence=task.written(one.sequence),
            mutations=_mutations(one, task),
            prediction=one.prediction,
            low=one.low,
            high=one.high,
            std_calibrated=one.std,
            acquisition=None if is_control else one.acquisition,
            outside=one.outside,
            name=one.name,
        )


def _mutations(one: Pick, task: Task) -> str:
    wild_type = task.wild_type
    if wild_type is None or len(one.sequence) != len(wild_type):
        return ""
    words = (task.mutation(site, wild_type[site], one.sequence[site]) for site in one.sites)
    return ":".join(words) or "WT"
