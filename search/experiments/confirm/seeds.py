"""A candidate trained with several seeds, on train+validation and on train alone."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from datasets.common.paths import Places
from search.config.run_config import RunConfig
from search.experiments.confirm.candidates import DIVISIONS, Candidate, TrainedOn
from search.experiments.confirm.kept_runs import KeptRun, begin_again, keep_run, kept_run
from search.storage.ending import Ending
from search.workers.child import Running
from search.workers.in_order import results_in_order
from search.workers.jobs import isolated_run
from search.workers.signals import Signals

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.workers.display import Display


@dataclass(frozen=True, kw_only=True)
class _Seed:
    """A run: its config, where it is trained, all that its numbers depend on, and what is kept of it from before."""

    seed: int
    trained_on: TrainedOn
    run: RunConfig
    directory: Path
    about: Mapping[str, Any]
    kept: KeptRun | None


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
    from search.training.checkpoint.progress import about

    planned = []
    for trained_on in DIVISIONS:
        for seed in seeds:
            run, directory = candidate.run(seed, trained_on), folder / trained_on / f"seed{seed}"
            assert run.trainer.threads is not None, "a candidate's config is that of a run"
            depends_on = about(run, split, threads=run.trainer.threads, backbone=backbone)
            kept = kept_run(directory, depends_on)
            planned.append(
                _Seed(seed=seed, trained_on=trained_on, run=run, directory=directory, about=depends_on, kept=kept)
            )

    def begin(one: _Seed) -> Running:
        return isolated_run(one.run, split.path, places, one.directory, resume=begin_again(one.directory))

    weights: dict[TrainedOn, list[Path]] = {trained_on: [] for trained_on in DIVISIONS}
    device = ""
    missing = [partial(begin, one) for one in planned if one.kept is None]
    with contextlib.closing(results_in_order(missing, display, signals)) as results:
        for one in planned:
            what = f"{candidate.name}, seed {one.seed} on {one.trained_on.replace('_and_', '+')}"
            kept, took = one.kept, "before"
            if kept is None:
                result = next(results)
                if result.ending != Ending.COMPLETE:
                    fail(f"{what} ended without weights: {result.ending}, {result.reason}")
                kept = KeptRun(weights=Path(result.checkpoints[0]), device=result.device)
                took = f"{result.seconds:.1f} s"
                keep_run(one.directory, kept, one.about)
            weights[one.trained_on].append(kept.weights)
            device = kept.device
            display.announce(f"{title}: {what}, {candidate.how_long}: {took}")
    return weights, device
