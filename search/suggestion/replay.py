"""Past rounds of measurement played again: what each acquisition would have picked, beside what the laboratory did.

Round k is played with what was known before it: the experiment's config is trained on the rounds before, in five folds,
whose models predict and whose errors out of fold calibrate them. As many as the laboratory measured in round k are then
picked out of what was measured in round k or later, because the value of anything else is not known. The last round is
all that is left by then, so there is nothing to choose in it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import BLOCK_ROWS
from datasets.common.errors import UserError
from datasets.common.files import check_output, is_stream, refuse_same_file
from datasets.common.paths import Places
from datasets.embeddings import store as _store  # noqa: F401  # used after the first training, and imported before it
from datasets.sequences.mutation_counts import find_mutations
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import MIN_SEQUENCES
from datasets.validation.rounds import BeforeRound, rounds_of
from search.config.run_config import RunConfig
from search.experiments.confirm.candidates import of_experiment
from search.experiments.experiment import Experiment, load_experiment
from search.experiments.requirements import check_callbacks, check_data, files_of_training
from search.machine.hardware import usable_cores
from search.machine.standard_streams import announcer
from search.options.of_suggest import ACQUISITIONS
from search.request.inputs import load_split, places_of
from search.request.replay_request import ReplayRequest
from search.storage.ending import Ending
from search.study.calibrated import beside_rows, calibration_of
from search.suggestion.best import distinct
from search.suggestion.past import Forecast, among_best, expected_highest, picked
from search.suggestion.picker import Diversity
from search.suggestion.replayed import LABORATORY, RANDOM, Replay, ReplayedPick, write_replay
from search.training.predictions import predictions_in
from search.training.predictor import Predictor
from search.training.result import Result
from search.workers.child import prepare_children
from search.workers.display import Display, PlainDisplay
from search.workers.jobs import isolated_run
from search.workers.run_alone import Stopped, check_backbone, outcome
from search.workers.signals import Signals

_FOLDS = 5
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
    if experiment.ensemble is not None:
        raise UserError(
            f"{path} has {len(experiment.parts)} members, and --replay trains one config: name the experiment of one "
            "study."
        )
    if table is None or table.round_column is None:
        raise UserError(
            f"{path} knows no rounds, which --replay plays again: search a table with --round-column NAME, and name "
            "the experiment of that search."
        )
    check_callbacks(path, experiment)
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
                forecast, why = self._forecast(one, sequences, first, pool, folder, display, signals)
                if forecast is None:
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
        display: Display,
        signals: Signals,
    ) -> tuple[Forecast | None, str]:
        """What the config, trained on all before a round, predicts of the pool; None and why if it came to nothing."""
        config, split, before = self._config(number), self.split, self.experiment.provenance
        check_backbone(config, before.backbone, split.path, self.places, display, signals)
        directory = folder / str(number)
        child = isolated_run(config, split.path, self.places, directory, cores=usable_cores())
        result = outcome(child, display, signals, shows_values=False)
        assert isinstance(result, Result)
        if result.ending != Ending.COMPLETE:
            return None, f"the config, trained on what was known before, ended {result.ending}, {result.reason}"
        weights = [Path(name) for name in result.checkpoints]
        predictions = predictions_in(directory)
        calibration = None
        if predictions is not None:
            calibration = calibration_of(
                config, split, predictions, validated="random", weights=weights, places=self.places
            )
        if calibration is None:
            return None, "its predictions out of fold say nothing of their errors"
        predictor = Predictor(config, weights, places=self.places, micro_batch_tokens=result.micro_batch_tokens)
        members, deviations = [], []
        rows = first[pool]
        for start in range(0, len(rows), BLOCK_ROWS):
            some = rows[start : start + BLOCK_ROWS]
            given: dict[str, Any] = beside_rows(config, split, some)
            residues, lengths = split.residues[some], split.lengths[some]
            predicted = predictor(residues, lengths, **given)
            own = predictor.deviation(residues, lengths, **given) if calibration.asks_deviation else None
            members.append(predicted)
            deviations.append(calibration.deviation(predicted, own))
            if signals.exit_status:
                raise Stopped(signals.exit_status)
        every = np.concatenate(members, axis=1)
        if not np.isfinite(every).all():
            return None, "some predictions of the pool are not finite"
        name, n_known = split.fold_names[number], len(sequences) - len(pool)
        display.announce(f"Round {name}: trained on {n_known:,} variants, {len(pool):,} to choose from.")
        return Forecast(
            sequences=[sequences[place] for place in pool.tolist()],
            members=every,
            deviation=np.concatenate(deviations),
            best=0.0,
            sites=self._sites(rows),
        ), ""

    def _config(self, number: int) -> RunConfig:
        """The run that trains the experiment's config, for its epochs, on what was measured before a round."""
        candidate = of_experiment(self.experiment)
        division = BeforeRound(number=number, n_folds=_FOLDS, seed=self.request.seed)
        return replace(candidate.run(candidate.config.seed, "train_and_validation"), validation=division.tree)

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
        yield (
            "The config was chosen by a search that knew all rounds: what the acquisitions find is rather too good. "
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
