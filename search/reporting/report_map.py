"""The map of single mutations in a study's report: predicted in a child process, within limits."""

import math
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets.candidates.mutation_map import MutationMap
from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.config.run_config import task_of
from search.experiments.experiment import load_experiment
from search.reporting.html import Block
from search.reporting.mutation_figure import describe, draw
from search.reporting.proposals import Proposals
from search.workers.child import Child, Tell, prepare_children
from search.workers.messages import Failure, MapPredicted

MOST_CPU_S = 60
"""Of the predictions; a report does not wait for more."""
_GRACE_S = 5  # of CPU time: then the system ends a child that was not asked between two batches
_MOST_S = 1800.0  # altogether, on a machine that others use


def mutation_blocks(export: Path, split: Path | None, places: Places, proposals: Proposals) -> list[Block]:
    """The map of an experiment with what is to be said of it, or a sentence that says why there is none.

    Args:
        export: The experiment, with its weights beside it.
        split: The prepared rows of training and validation, by which measured cells are marked; None: none is.
        places: Where caches are.
        proposals: How the command is written that makes the map alone.
    """
    command = proposals.command("predict", export, "--mutagenesis", "singles", "--figure", "map.html")
    try:
        experiment = load_experiment(export)
        config = experiment.config
        if task_of(config).wild_type is None:
            return ["There is no map of single mutations, for the task has no wild type."]
        if config.model.get("pretrained"):
            return [f"A report does not wait for a pretrained language model; this makes the map: {command}"]
        if experiment.embeddings is not None:
            return [f"The map needs an embedding of every single mutant; this makes it: {command} --embeddings FILE"]
        found = _predicted(export, split, places)
    except (UserError, OSError) as error:
        return [f"There is no map of single mutations: {error}", f"The command that makes it: {command}"]
    about = f"By {export.name}, with the weights beside it; this makes the map alone: {command}"
    return [about, *describe(found), draw(found)]


def _predicted(export: Path, split: Path | None, places: Places) -> MutationMap:
    """What a child predicts: this process needs no torch, and a child can be ended whatever it does.

    Raises:
        UserError: It cannot, or takes too long.
    """
    prepare_children()
    with tempfile.TemporaryDirectory(prefix="flipsearch-") as folder:
        child = Child(partial(_predict, export, split, places), Path(folder))
        try:
            deadline = time.monotonic() + _MOST_S
            while (left := deadline - time.monotonic()) > 0:
                message = child.next_message(left)
                if isinstance(message, MapPredicted):
                    return message.map
                if isinstance(message, Failure):
                    raise UserError(_reason(message))
            raise UserError(f"the predictions took more than {_MOST_S:g} s.")
        finally:
            child.close()


def _reason(failure: Failure) -> str:
    if failure.kind == "refused":
        return failure.message
    if failure.kind == "lost":
        return f"the predictions took more than {MOST_CPU_S} s of CPU time, or too much memory."
    return f"the predictions failed ({failure.message.strip().splitlines()[-1]})."


def _predict(export: Path, split: Path | None, places: Places, tell: Tell, should_stop: Callable[[], bool]) -> None:
    """What the child does. It leaves GPUs to those who train."""
    import torch

    from datasets.splits.prepared import load_prepared
    from search.experiments.trained import TrainedExperiment
    from search.prediction.single_mutants import predicted_map, single_mutants

    def check() -> None:
        if time.process_time() - started > MOST_CPU_S:
            raise UserError(f"the predictions took more than {MOST_CPU_S} s of CPU time.")

    trained = TrainedExperiment(export, places=places, device=torch.device("cpu"))
    single_mutants(trained)  # which refuses what has no map
    scores = trained.candidate_scores()
    rows = None if split is None else load_prepared(split)
    if rows is not None and rows.data_hash != trained.provenance.data_hash:
        rows = None
    started = time.process_time()
    limit, hard = math.ceil(started) + MOST_CPU_S + _GRACE_S, resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    tell(MapPredicted(map=predicted_map(trained, scores=scores, split=rows, check=check)))
