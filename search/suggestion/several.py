"""The next plate by several properties, or by what is required of one: the batch is picked from the fronts in order.

The candidates pass once to be predicted by every experiment, and once more for the sequences of those that come first.
Where what is asked of the batch leaves too few of these, they pass again for those that come after.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates, Stream
from datasets.candidates.measured import LeftOut
from datasets.candidates.outside import outside_reasons
from datasets.common.errors import UserError
from datasets.common.files import rereadable
from datasets.sequences.gaps import protein
from datasets.sequences.mutation_counts import find_mutations
from search.experiments.experiment import checksum, load_experiment
from search.experiments.sealed import check_unchanged
from search.machine.standard_streams import announcer
from search.options.of_suggest import ACQUISITIONS, BATCH_UCB
from search.prediction.intervals import about_intervals, check_intervals
from search.properties.candidates import candidates_of, check_candidates
from search.properties.columns import PropertyColumns, predicted
from search.properties.opened import Property, asked, open_properties
from search.properties.ranking import check_beside
from search.properties.ranks import Ranked
from search.properties.request import check_experiments
from search.request.suggest_request import SuggestRequest
from search.stats.calibration import LEVEL
from search.suggestion.best import best_measured
from search.suggestion.choice import check_diversity
from search.suggestion.files import check_files, refuse_inputs_of
from search.suggestion.joint_order import check_acquisition, draw_of, joint_order
from search.suggestion.picker import Diversity, Picker
from search.suggestion.plate import filled, named_controls
from search.suggestion.pool import LEAST, Pick, unpredicted
from search.suggestion.retrained import device_for, of_confirm, retrained
from search.suggestion.wells import places

_POOL_PER_PICK = 4
_CALIBRATED = ("low", "high", "std_calibrated")


@dataclass(frozen=True, kw_only=True)
class PropertiesPlate:
    """A batch that was picked by several properties.

    wells: a mapping each, all with the same names, in the order of their rows: `pandas.DataFrame(plate.wells)`. rank: 1
    was picked first; None of a control. prediction, low, high, std_calibrated and outside of each property end in its
    name where there are several. n_wanted, n_candidates, n_known, n_tested: as of `search.suggestion.plate.NextPlate`,
    of variants that were measured for any of the properties. best: by the property's name the best value measured in
    training and validation. intervals: what low and high of each are made of, in words. by: what ranked the candidates.
    checksums: by the property's name that of its experiment.
    """

    wells: tuple[Mapping[str, Any], ...] = field(repr=False)
    properties: tuple[Property, ...] = field(repr=False)
    n_wanted: int
    n_candidates: int
    n_known: int
    n_tested: int
    best: Mapping[str, float]
    intervals: Mapping[str, str] = field(repr=False)
    by: str
    others: NDArray[np.floating[Any]] = field(repr=False)
    checksums: Mapping[str, str] = field(repr=False)

    @property
    def candidates(self) -> tuple[Mapping[str, Any], ...]:
        """The wells without the controls, the one that was picked first first."""
        return tuple(sorted((well for well in self.wells if well["rank"] is not None), key=lambda well: well["rank"]))


def suggest_several(request: SuggestRequest) -> PropertiesPlate:
    """Pick the next plate; it is not written (see `search.suggestion.next_plate`).

    Raises:
        UserError: An experiment, its weights, its data or the candidates are not what they have to be, none is left, or
            what is asked is of one experiment.
    """
    _refuse_of_one(request)
    announce = announcer(request.quiet)
    experiments = (request.experiment, *request.others)
    check_experiments(experiments)
    for file in experiments:
        own = replace(request, experiment=file)
        check_files(own)
        refuse_inputs_of(load_experiment(file, announce), own)
    checksums = {file: checksum(file) for file in experiments}
    properties = open_properties(
        experiments, request, announce, has_rows=True, device_for=lambda path: device_for(path, request)
    )
    check_beside(request, properties)
    properties = tuple(replace(one, trained=of_confirm(one.trained, request)) for one in properties)
    for one in properties:
        check_intervals(one.trained, request.level, None)
        check_diversity(request, one.trained)
    bounds = asked(properties, request.require)
    check_acquisition(request, properties, bounds)
    with contextlib.nullcontext() if request.input is None else rereadable(request.input) as path:
        check_candidates(request, path, properties)
        properties = tuple(
            replace(one, trained=retrained(one.trained, one.split, request))
            for one in properties
            if one.split is not None
        )
        check_acquisition(request, properties, bounds)  # of models of which there may be fewer than before
        plate = _Batch(request, properties, bounds, checksums, path, announce).plate()
    for file, before in checksums.items():
        check_unchanged(file, before)
    return plate


def _refuse_of_one(request: SuggestRequest) -> None:
    """Refuse what is of one experiment, picked by its prediction. Raises a UserError."""
    what = "several experiments" if request.others else "a pick by --require"
    if request.acquisition == BATCH_UCB:
        raise UserError(
            f"--acquisition {BATCH_UCB} is of one experiment and not of {what}: take "
            f"{' or '.join(name for name in ACQUISITIONS if name != BATCH_UCB)}."
        )
    if request.spread_weight is not None:
        raise UserError(
            f"--spread is of one experiment and not of {what}: leave it out, or keep candidates apart with "
            "--min-distance."
        )


@dataclass(frozen=True)
class _Batch:
    request: SuggestRequest
    properties: Sequence[Property]
    bounds: Mapping[int, tuple[float, float]]
    checksums: Mapping[Path, str]
    path: Path | None
    announce: Callable[[str], None]

    def plate(self) -> PropertiesPlate:
        """Pick candidates and controls, and give them their wells."""
        request, properties, left_out = self.request, self.properties, LeftOut()
        wells = places(request.batch, request.controls, request.plate)
        n_wanted = sum(well.control is None for well in wells)
        stream = candidates_of(request, self.path, properties, left_out, self.announce)
        columns = predicted(properties, request, self.path, stream, draw_of(request, properties))
        order = joint_order(request, properties, columns, self.bounds, n_wanted)
        picked = self._picked(order, n_wanted)
        best = [best_measured(one.split) for one in properties if one.split is not None]
        controls, of_controls = self._controls([one.sequence for one in best])
        rows = [
            {
                "rank": well.rank,
                "well": well.well,
                "plate": well.plate,
                "role": well.role,
                "sequence": well.sequence,
                "mutations": well.mutations,
                **self._said(well, order, columns, [one.place for one in picked], of_controls),
                **({"name": well.name} if request.names else {}),
            }
            for well in filled(wells, picked, controls, properties[0].trained.task)
        ]
        return PropertiesPlate(
            wells=tuple(rows),
            properties=tuple(properties),
            n_wanted=n_wanted,
            n_candidates=len(columns[0]) + left_out.n,
            n_known=left_out.n - left_out.n_test,
            n_tested=left_out.n_test,
            best={one.name: own.value for one, own in zip(properties, best, strict=True)},
            intervals={one.name: about_intervals(one.trained, request.level or LEVEL) for one in properties},
            by=_by(request, has_bounds=bool(self.bounds)),
            others=self._others(order, columns, [one.place for one in picked]),
            checksums={one.name: self.checksums[one.trained.path] for one in properties},
        )

    def _others(self, order: Ranked, columns: Sequence[PropertyColumns], picked: Sequence[int]) -> NDArray[Any]:
        rows = order.order[: LEAST + len(picked)]
        rows = rows[~np.isin(rows, picked)][:LEAST]
        found = [own.prediction[rows] for own in columns]
        return np.column_stack(found if len(found) > 1 else [*found, order.by["p_required"][rows]])

    def _picked(self, order: Ranked, n_wanted: int) -> list[Pick]:
        """The candidates in their order, each that is unlike enough to those before it."""
        request = self.request
        diversity = Diversity(max_per_position=request.max_per_position, min_distance=request.min_distance)
        picker, picked, taken = Picker(n_wanted, diversity), list[Pick](), set[bytes]()
        chains = self.properties[0].trained.task.chains
        most = max(LEAST, _POOL_PER_PICK * n_wanted)
        for first in range(0, len(order.order), most):
            for one in self._named(order.order[first : first + most]):
                own = protein(one.sequence.encode("ascii"), chains)
                if own not in taken and picker.take(one.sequence, one.sites):
                    picked.append(one)
                    taken.add(own)
            if picker.is_full:
                break
        return picked

    def _named(self, chosen: NDArray[np.int64]) -> list[Pick]:
        """Some candidates, given by their numbers, in this order."""
        found: dict[int, Pick] = {}
        wanted, n = np.sort(chosen), 0
        for block in candidates_of(self.request, self.path, self.properties, LeftOut()).blocks:
            rows = wanted[(wanted >= n) & (wanted < n + len(block))] - n
            if len(rows):
                found.update(_picks(block.take(rows), n + rows, self.properties[0].trained.task.wild_type))
            n += len(block)
        return [found[number] for number in chosen.tolist()]

    def _controls(self, best: Sequence[str]) -> tuple[list[Pick], dict[str, tuple[int, tuple[PropertyColumns, ...]]]]:
        """The wild type, where one is known, and the best measured variant of each property; what is said of them."""
        if not self.request.controls:
            return [], {}
        task = self.properties[0].trained.task
        wild_type = task.wild_type
        texts = list(dict.fromkeys([*([] if wild_type is None else [wild_type]), *best]))
        picks, written = [unpredicted(text, wild_type) for text in texts], list(map(task.written, texts))
        try:
            stream = Stream(label="mutations", blocks=iter([named_controls(texts, task)]), n_total=len(texts))
            columns = predicted(self.properties, replace(self.request, quiet=True), None, stream)
        except UserError as error:
            self.announce(f"The controls stand without predictions: {error}")
            return picks, {}
        return picks, {text: (row, columns) for row, text in enumerate(written)}

    def _said(
        self,
        well: Any,
        order: Ranked,
        columns: Sequence[PropertyColumns],
        places: Sequence[int],
        of_controls: Mapping[str, tuple[int, tuple[PropertyColumns, ...]]],
    ) -> dict[str, Any]:
        """What ranked a well, and what each property has of it; None of what nobody knows."""
        by: dict[str, Any] = dict.fromkeys(order.by)
        row, every = None, columns
        if well.rank is not None:
            row = places[well.rank - 1]
            by = {name: values[row].item() for name, values in order.by.items()}
        elif well.sequence in of_controls:
            row, every = of_controls[well.sequence]
        for number, (one, own) in enumerate(zip(self.properties, every, strict=True)):
            ending = f"_{one.name}" if len(self.properties) > 1 else ""
            found = [None] * 4 if row is None else _numbers(own, row)
            by |= {f"{name}{ending}": value for name, value in zip(("prediction", *_CALIBRATED), found, strict=True)}
            by[f"outside{ending}"] = "" if row is None else outside_reasons(int(every[number].outside[row]))
        return by


def _by(request: SuggestRequest, *, has_bounds: bool) -> str:
    """What ranks the candidates, in words."""
    if request.acquisition == "expected-improvement":
        return "expected hypervolume improvement" + ", times the chance of what is required" * has_bounds
    return "what is required" if has_bounds else "non-domination and crowding distance"


def _picks(some: Candidates, places: NDArray[np.int64], wild_type: str | None) -> dict[int, Pick]:
    """Candidates by their places among all."""
    sites: list[tuple[int, ...]] = [()] * len(some)
    if wild_type is not None:
        found = find_mutations(some.residues, some.lengths, wild_type).sites
        sites = [tuple(np.flatnonzero(row).tolist()) for row in found]
    names = some.names or [""] * len(some)
    rows = zip(places.tolist(), some.sequences(), sites, names, strict=True)
    return {
        place: replace(unpredicted(text, None), place=place, sites=own, name=name) for place, text, own, name in rows
    }


def _numbers(own: PropertyColumns, row: int) -> list[float | None]:
    """Prediction, low, high and calibrated deviation; None where they say nothing, as `predict` leaves cells empty."""
    prediction, known = float(own.prediction[row]), own.calibrated
    if known is None or own.outside[row]:
        return [prediction, None, None, None]
    numbers = [float(values[row]) for values in (known.low, known.high, known.std)]
    return [prediction, *(one if np.isfinite(one) else None for one in numbers)]
