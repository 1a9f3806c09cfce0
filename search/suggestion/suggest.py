"""The next plate of an experiment, from the request to the wells: read this first.

The candidates pass once, in blocks, and the best few thousand are kept; of these the batch is picked, the best first.
Where what is asked of the batch leaves too few of them, the candidates pass again for those that come after.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.candidates.candidates import Candidates, Stream
from datasets.candidates.measured import LeftOut
from datasets.candidates.outside import Outside
from datasets.common.errors import UserError
from datasets.common.files import rereadable
from datasets.embeddings.candidates import CandidateEmbeddings
from datasets.scores.candidates import CandidateScores
from datasets.sequences.codes import as_bytes
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import task_of
from search.experiments.experiment import checksum, load_experiment
from search.experiments.requirements import check_data
from search.experiments.sealed import check_unchanged
from search.experiments.trained import TrainedExperiment
from search.machine.standard_streams import announcer
from search.options.of_suggest import BATCH_UCB
from search.prediction.display import Counter
from search.prediction.divided_cores import divided_cores
from search.prediction.intervals import about_intervals
from search.prediction.prefetch import ahead, in_order
from search.prediction.ranking import Valuation
from search.properties.candidates import candidates_of, check_candidates
from search.properties.opened import Property
from search.properties.ranking import check_beside
from search.request.inputs import load_split, places_of
from search.request.suggest_request import SuggestRequest
from search.stats.calibration import LEVEL
from search.study.training_rows import familiar_rows
from search.suggestion.acquisition import acquired, asks_deviation, uniform_draws
from search.suggestion.best import Best, best_measured
from search.suggestion.choice import GREEDY, acquisition_of, check_choice, check_diversity
from search.suggestion.conditioned import conditioned_picks, hopes
from search.suggestion.figure import draw_plate
from search.suggestion.files import check_files, refuse_inputs_of, write_plate
from search.suggestion.picker import Diversity, Picker
from search.suggestion.plate import NextPlate, filled, named_controls
from search.suggestion.pool import LEAST, Pick, Pool, Scored, choices, unpredicted
from search.suggestion.retrained import device_for, of_confirm, retrained
from search.suggestion.spread import SPREAD_POOL, spread_picks
from search.suggestion.wells import places

_POOL_PER_PICK = 4
"""Candidates that are kept for each that is picked, because some do not fit to the others."""


def suggest(request: SuggestRequest) -> NextPlate:
    """Pick the next plate, and write it where the request names an output.

    Raises:
        UserError: The experiment, its weights, its data or the candidates are not what they have to be, no candidate is
            left, or the output cannot be written.
        search.workers.run_alone.Stopped: A signal came while a model was trained, or its training failed.
    """
    check_files(request)
    announce = announcer(request.quiet)
    experiment = load_experiment(request.experiment, announce)
    refuse_inputs_of(experiment, request)
    before = checksum(request.experiment)
    trained = TrainedExperiment(
        request.experiment,
        places=places_of(request.weights_dir, request.runs_dir),
        device=device_for(request.experiment, request),
        announce=announce,
    )
    trained = of_confirm(trained, request)
    check_choice(request, trained)
    split = load_split(
        task_of(trained.config, request.data, alignment=request.alignment),
        request.data_dir,
        request.runs_dir,
        announce,
        weights_dir=request.weights_dir,
    )
    check_data(request.experiment, trained.config, trained.provenance, split)
    check_diversity(request, trained)
    own = Property(name=request.experiment.stem, trained=trained, split=split)
    check_beside(request, [own])
    with contextlib.nullcontext() if request.input is None else rereadable(request.input) as path:
        check_candidates(request, path, [own])
        trained = retrained(trained, split, request)
        check_choice(request, trained)  # of which there may be fewer than before
        request = replace(request, acquisition=acquisition_of(request, trained))
        with divided_cores([trained.predictor]) as n_threads:
            plate = _Batch(request, trained, split, path, announce, n_threads).plate()
    check_unchanged(request.experiment, before)
    if request.figure is not None:  # before the plate, so that what ends the drawing leaves no plate
        draw_plate(plate, request.figure, f"{request.experiment.name}, by {request.acquisition}")
    if request.output is not None:
        write_plate(plate, request, trained, split, before)
    return plate


class _Counts(NamedTuple):
    """How many candidates were left out because they were measured, and how many passed."""

    left_out: LeftOut
    n_passed: int


@dataclass(frozen=True)
class _Batch:
    request: SuggestRequest
    trained: TrainedExperiment
    split: PreparedSplit
    path: Path | None
    announce: Callable[[str], None]
    n_threads: int

    def plate(self) -> NextPlate:
        """Pick candidates and controls, and give them their wells."""
        request, trained = self.request, self.trained
        best = best_measured(self.split)
        wells = places(request.batch, request.controls, request.plate)
        n_wanted = sum(well.control is None for well in wells)
        diversity = Diversity(max_per_position=request.max_per_position, min_distance=request.min_distance)
        picked, pool, counts, spread_by = self._picked(best, n_wanted, diversity)
        controls = self._controls(best) if request.controls else []
        return NextPlate(
            wells=filled(wells, picked, controls, trained.task),
            n_wanted=n_wanted,
            n_candidates=counts.n_passed + counts.left_out.n,
            n_known=counts.left_out.n - counts.left_out.n_test,
            n_tested=counts.left_out.n_test,
            best_sequence=trained.task.written(best.sequence),
            best_value=best.value,
            units=trained.task.units,
            intervals=about_intervals(trained, request.level or LEVEL),
            pool=tuple(pool),
            picked=tuple(picked),
            acquisition=request.acquisition or GREEDY,
            spread_by=spread_by,
        )

    def _picked(self, best: Best, n_wanted: int, diversity: Diversity) -> tuple[list[Pick], list[Pick], _Counts, str]:
        """The picked candidates, the best first; those of the first pass of which they were picked; how many passed.

        The last is by what they are spread, in words; empty where they are not.
        """
        stream, left_out = self._candidates(self.announce)
        scores = self.trained.candidate_scores(
            file=self.request.zero_shot_file,
            sums=self.request.sum_zero_shot,
            given=stream.scores,
            alignment=self.request.alignment,
        )
        picker, picked = Picker(n_wanted, diversity), list[Pick]()
        first: list[Pick] = []
        spread, spread_by = self.request.spread_weight, ""
        is_conditioned = self.request.acquisition == BATCH_UCB
        least = LEAST if spread is None and not is_conditioned else SPREAD_POOL
        after: tuple[float, int] | None = None
        with self.trained.candidate_embeddings(self.request.embeddings) as embedded:
            valuation = self._valuation(scores, embedded, self.path)
            while True:
                pool = Pool(
                    valuation,
                    max(least, _POOL_PER_PICK * n_wanted),
                    picker,
                    without=[one.sequence for one in picked],
                    after=after,
                )
                counts = _Counts(left_out, self._pass(stream, valuation, best, pool))
                if scores is not None and not first:
                    scores.announce_lacking()
                kept, after = pool.best()
                first = first or kept
                if is_conditioned:
                    beta = self.request.deviations
                    picked += conditioned_picks(self.trained, kept, picked, n_wanted, picker, beta)
                elif spread is None:
                    picked += [one for one in kept if picker.take(one.sequence, one.sites)]
                else:
                    more, by = spread_picks(self.trained.predictor, kept, picked, n_wanted, picker, spread)
                    picked, spread_by = picked + more, by or spread_by
                if picker.is_full or after is None:
                    return picked, first, counts, spread_by
                stream, left_out = self._candidates()

    def _candidates(self, announce: Callable[[str], None] = lambda sentence: None) -> tuple[Stream, LeftOut]:
        """All candidates that nobody measured, and the count of the others, which grows while they are read."""
        left_out = LeftOut()
        own = Property(name=self.trained.path.stem, trained=self.trained, split=self.split)
        return candidates_of(self.request, self.path, [own], left_out, announce), left_out

    def _pass(self, stream: Stream, valuation: Valuation, best: Best, pool: Pool) -> int:
        """Hand the candidates to the pool; how many there were."""
        n_passed = 0
        counter = Counter(stream.n_total, is_quiet=self.request.quiet)
        score = partial(self._scored, valuation, best)
        with (
            counter,
            contextlib.closing(ahead(_placed(stream.blocks))) as blocks,
            contextlib.closing(in_order(score, blocks, self.n_threads, valuation.stop)) as scored,
        ):
            for block in counter.counted(scored):
                pool.add(block)
                n_passed += len(block)
        return n_passed

    def _scored(self, valuation: Valuation, best: Best, block: tuple[int, Candidates]) -> Scored:
        first, candidates = block
        valued = valuation.values(candidates)
        if self.request.acquisition == BATCH_UCB:
            value = hopes(self.trained, valued)
            return Scored(valued=valued, acquisition=value, place=first + np.arange(len(value)))
        assert self.request.acquisition is not None, "see `acquisition_of`"
        draws = None
        if self.request.acquisition == "thompson":
            draws = uniform_draws(as_bytes(candidates.residues, candidates.lengths), self.request.seed)
        value = acquired(
            self.request.acquisition,
            valued.prediction,
            valued.spread,
            beta=self.request.deviations,
            best=best.value,
            members=valued.members,
            weights=self.trained.weights,
            draws=draws,
        )
        return Scored(valued=valued, acquisition=value, place=first + np.arange(len(value)))

    def _controls(self, best: Best) -> list[Pick]:
        """The wild type, where one is known, and the best measured variant."""
        wild_type = self.trained.task.wild_type
        texts = list(dict.fromkeys([best.sequence] if wild_type is None else [wild_type, best.sequence]))
        own = named_controls(texts, self.trained.task)
        nothing = np.zeros(len(texts))
        try:
            scores = self.trained.candidate_scores(
                file=self.request.zero_shot_file, sums=self.request.sum_zero_shot, alignment=self.request.alignment
            )
            with self.trained.candidate_embeddings(self.request.embeddings) as embedded:
                valuation = self._valuation(scores, embedded)
                return choices(valuation, valuation.values(own), nothing, nothing.astype(np.int64))
        except UserError as error:
            self.announce(f"The controls stand without predictions: {error}")
        return [unpredicted(text, wild_type) for text in texts]

    def _valuation(
        self, scores: CandidateScores | None, embeddings: CandidateEmbeddings | None, path: Path | None = None
    ) -> Valuation:
        trained, request = self.trained, self.request
        crop, limit = trained.config.data.crop, trained.predictor.limit
        familiar = trained.familiar
        if familiar is None:
            familiar = familiar_rows(trained.config, self.split, limit.max_residues)[trained.origin]
        return Valuation(
            trained=trained,
            outside=Outside(familiar, task=trained.task, crop=crop, limit=limit),
            training=None,
            kind="csv",
            level=request.level or LEVEL,
            has_chance=asks_deviation(request.acquisition or GREEDY, trained.n_members),
            path=path,
            scores=scores,
            embeddings=embeddings,
        )


def _placed(blocks: Iterator[Candidates]) -> Iterator[tuple[int, Candidates]]:
    """The blocks, each with the place of its first candidate among all."""
    n = 0
    for block in blocks:
        yield n, block
        n += len(block)
