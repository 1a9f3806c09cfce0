"""A candidate trained with several seeds, on train+validation and on train alone."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from datasets.common.paths import Places
from search.experiments.confirm.candidates import DIVISIONS, Candidate, TrainedOn
from search.experiments.confirm.training import KEPT, EndedWithoutWeights, PlannedRun
from search.workers.in_order import results_in_order
from search.workers.signals import Signals

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.workers.display import Display


def train_seeds(
    candidate: Candidate,
    seeds: range,
    *,
    split: "PreparedSplit",
    backbone: str | None,
    folder: Path,
    places: Places,
    display: "Display",
    signals: Signals,
    title: str,
    fail: Callable[[str], NoReturn],
) -> tuple[dict[TrainedOn, list[Path]], str]:
    """The weights of each seed, and the device that they were trained on; those that are kept are not trained again.

    Seeds train side by side on idle cores. Each that is trained is announced, after the `title`.

    Args:
        candidate: What is trained.
        seeds: The seeds.
        split: The rows.
        backbone: The hash of the pretrained weights.
        folder: Of the candidate, for its runs.
        places: Where runs find what is not their own.
        display: Told what they have to say.
        signals: What people say.
        title: Of the experiment.
        fail: Called with the reason where a run has no weights.

    Raises:
        search.workers.run_alone.Stopped: A signal came, or a run failed.
    """
    planned = {
        (trained_on, seed): PlannedRun.of(
            candidate.run(seed, trained_on), folder / trained_on / f"seed{seed}", split, backbone
        )
        for trained_on in DIVISIONS
        for seed in seeds
    }
    weights: dict[TrainedOn, list[Path]] = {trained_on: [] for trained_on in DIVISIONS}
    device = ""
    missing = [partial(one.begin, split, places) for one in planned.values() if one.kept is None]
    with contextlib.closing(results_in_order(missing, display, signals)) as results:
        for (trained_on, seed), one in planned.items():
            what = f"{candidate.name}, seed {seed} on {trained_on.replace('_and_', '+')}"
            kept, took = one.kept, KEPT
            if kept is None:
                result = next(results)
                took = f"{result.seconds:.1f} s"
                try:
                    kept = one.keep(result)
                except EndedWithoutWeights as why:
                    fail(f"{what} ended without weights: {why}")
            weights[trained_on].append(kept.weights)
            device = kept.device
            display.announce(f"{title}: {what}, {candidate.how_long}: {took}")
    return weights, device
