"""Past rounds of measurement played again: what each acquisition would have picked, beside what the laboratory did.

Round k is played with what was known before it: the experiment's config, or that of each member of an ensemble, is
trained on the rounds before, in five folds, whose models predict and whose errors out of fold calibrate them. As many
as the laboratory measured in round k are then picked out of what was measured in round k or later, because the value of
anything else is not known. The last round is all that is left by then, so there is nothing to choose in it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.files import check_output, is_stream, refuse_same_file
from datasets.common.paths import Places
from datasets.sequences.mutation_counts import find_mutations
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import MIN_SEQUENCES
from datasets.validation.rounds import rounds_of
from search.experiments.experiment import Experiment, load_experiment
from search.experiments.requirements import check_callbacks, check_data, files_of_training
from search.machine.standard_streams import announcer
from search.options.of_suggest import ACQUISITIONS
from search.request.inputs import load_split, places_of
from search.request.replay_request import ReplayRequest
from search.suggestion.best import distinct
from search.suggestion.picker import Diversity
from search.suggestion.replays.past import Forecast, among_best, expected_highest, picked
from search.suggestion.replays.replayed import LABORATORY, RANDOM, Replay, ReplayedPick, write_replay
from search.suggestion.replays.round_models import NotPlayed, Retraining
from search.workers.child import prepare_children
from search.workers.display import Display, PlainDisplay
from search.workers.signals import Signals

_TOP = 0.01
_LEAST_TOP = 10
_FEW_BEST = 100
"""Best variants of all rounds together, below which it is said what one more or less changes."""


def replay(request: ReplayRequest) -> Replay:
    """Play the rounds of an experiment's table again, and write what came of it where the request names an output.

    Raises:
        UserError: The experiment, its data or its rounds are not what they have to be, or the output cannot be written.
        search.workers.run_alone.Stopped: Ctrl-C came, or a run failed.
    """
    _check_output(request)
    announce = announcer(request.quiet)
    experiment = load_experiment(request.experiment, announce)
    _check_experiment(request, experiment)
    prepare_children()
    task = experiment.task(request.data)
    split = load_split(task, request.data_dir, request.runs_dir, announce, weights_dir=request.weights_dir)
    check_data(request.experiment, experiment.config, experiment.provenance, split)
    if request.max_per_position is not None and task.wild_type is None:
        raise UserError(f"--max-per-position counts mutations of a wild type, and {task.name} has none: leave it out.")
    game = _Game(request, experiment, task, split, places_of(request.weights_dir, request.runs_dir))
    found = game.played()
    if request.output is not None:
        write_replay(found, request.output)
    return found


def _check_output(request: ReplayRequest) -> None:
    path = request.output
    if path is None:
        return
    if path.suffix.lower() != ".csv" or is_stream(path):
        raise UserError(f"--output {path} is not valid: expected a file that ends in .csv.")
    check_output(path)
    for name, given in {"the --data": request.data, "the experiment": request.experiment}.items():
        if given is not None:
            refuse_same_file(given, path, name)


def _check_experiment(request: ReplayRequest, experiment: Experiment) -> None:
    path, table = request.experiment, experiment.config.table
    if table is None or table.round_column is None:
        raise UserError(
            f"{path} knows no rounds, which --replay plays again: search a table with --round-column NAME, and name "
            "the experiment of that search."
        )
    for part in experiment.parts:
        check_callbacks(path, part)
    if request.output is not None:
        for name, given in files_of_training(experiment, request.data).items():
            refuse_same_file(given, request.output, name)


@dataclass(frozen=True)
class _Game:
    request: ReplayRequest
    experiment: Experiment
    task: Task
    split: PreparedSplit
    places: Places

    def played(self) -> Replay:
        """All rounds that can be played."""
        split, task = self.split, self.task
        assert split.fold is not None, "its table has a column of rounds"
        rounds = rounds_of(split, task)
        if len(rounds) < 3:
            raise UserError(
                f"{task.name} has {len(rounds)} rounds outside of its test data, and --replay needs three: the first "
                "to learn from, and in the last nothing is left to choose."
            )
        names = split.fold_names
        notes = [f"Round {names[rounds[-1]]} is the last: all that is left was picked in it, so it is not played."]
        picks: list[ReplayedPick] = []
        sequences, first, value = distinct(split)
        number = split.fold[first]
        display: Display = Display() if self.request.quiet else PlainDisplay(1)
        signals = Signals(lambda sentence: None)
        train = Retraining(
            experiment=self.experiment,
            split=split,
            places=self.places,
            seed=self.request.seed,
            display=display,
            signals=signals,
        )
        with signals.installed(), self._folder() as folder:
            for one in rounds[1:-1]:
                n_known = int((number < one).sum())
                if n_known < MIN_SEQUENCES:
                    notes.append(
                        f"Round {names[one]} is not played: {n_known} variants were known before it, and "
                        f"{MIN_SEQUENCES} are needed to train and to calibrate."
                    )
                    continue
                pool = np.flatnonzero(number >= one)
                try:
                    forecast = self._forecast(one, sequences, first, pool, folder, train)
                except NotPlayed as why:
                    notes.append(f"Round {names[one]} is not played: {why}.")
                    continue
                forecast = replace(forecast, best=float(value[number < one].max()))
                picks += self._picks(one, forecast, value[pool], number[pool] == one, n_known)
        if not picks:
            raise UserError(f"No round of {task.name} can be played. {' '.join(notes)}")
        return Replay(picks=tuple(picks), notes=(*notes, *self._notes(picks)), units=task.units)

    def _picks(
        self, number: int, forecast: Forecast, value: NDArray[np.float64], is_own: NDArray[np.bool_], n_known: int
    ) -> Iterator[ReplayedPick]:
        """What each way to pick finds among variants with these values (n,); `is_own` are those of the laboratory."""
        request, n, n_pool = self.request, int(is_own.sum()), len(value)
        top = max(_LEAST_TOP, -(-n_pool // round(1 / _TOP))) if request.top is None else request.top
        is_best = among_best(value, top)
        n_best = int(is_best.sum())

        def found(name: str, n_picked: int, n_found: float, highest: float) -> ReplayedPick:
            return ReplayedPick(
                round=self.split.fold_names[number],
                picked_by=name,
                known=n_known,
                pool=n_pool,
                picked=n_picked,
                best=n_best,
                found=n_found,
                share=n_found / n_best,
                highest=highest,
            )

        diversity = Diversity(max_per_position=request.max_per_position, min_distance=request.min_distance)
        yield found(LABORATORY, n, float((is_own & is_best).sum()), float(value[is_own].max()))
        for name in ACQUISITIONS:
            rows = picked(name, forecast, n, beta=request.deviations, seed=request.seed, diversity=diversity)
            yield found(name, len(rows), float(is_best[rows].sum()), float(value[rows].max()))
        yield found(RANDOM, n, n * n_best / n_pool, expected_highest(value, n))

    def _forecast(
        self,
        number: int,
        sequences: list[bytes],
        first: NDArray[np.int64],
        pool: NDArray[np.int64],
        folder: Path,
        train: Retraining,
    ) -> Forecast:
        """What the experiment, trained on all before a round, predicts of the pool."""
        rows = first[pool]
        found = train(number, rows, folder)
        name, n_known = self.split.fold_names[number], len(sequences) - len(pool)
        train.display.announce(f"Round {name}: trained on {n_known:,} variants, {len(pool):,} to choose from.")
        return Forecast(
            sequences=[sequences[place] for place in pool.tolist()],
            members=found.members,
            weights=found.weights,
            deviation=found.deviation,
            best=0.0,
            sites=self._sites(rows),
        )

    def _sites(self, rows: NDArray[np.int64]) -> list[tuple[int, ...]]:
        """Where each of some rows differs from the wild type, where that is asked for."""
        if self.request.max_per_position is None or self.task.wild_type is None:
            return []
        found = find_mutations(self.split.residues[rows], self.split.lengths[rows], self.task.wild_type).sites
        return [tuple(np.flatnonzero(one).tolist()) for one in found]

    def _notes(self, picks: list[ReplayedPick]) -> Iterator[str]:
        if self.split.n_test:
            yield (
                f"{self.split.n_test:,} test sequences play no part: they are neither known nor to choose from, and "
                "their targets are not read."
            )
        chosen = "The config was" if self.experiment.ensemble is None else "The members and their weights were"
        yield (
            f"{chosen} chosen by a search that knew all rounds: what the acquisitions find is rather too good. "
            "They choose out of what was measured in the end, also what the laboratory thought of later."
        )
        own = [pick for pick in picks if pick.picked_by == LABORATORY]
        n_best = sum(pick.best for pick in own)
        if n_best < _FEW_BEST:
            some = f"{len(own)} round{'s' * (len(own) > 1)}"
            yield (
                f"Few rows: the shares rest on {n_best} best variants in {some}; one more or less changes a mean by "
                f"{1 / len(own) / min(pick.best for pick in own):.2f}."
            )

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder for weights, which nobody needs afterwards."""
        self.places.cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="replay-", dir=self.places.cache_dir) as folder:
            yield Path(folder)
