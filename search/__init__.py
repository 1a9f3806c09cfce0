"""The search, from Python: what the command line does, without it.

    import search

    outcome = search.run_study(search.SearchRequest(task="gb1_three_vs_rest", model="ridge", n_trials=20))
    search.confirm(outcome.experiment)
    experiment = search.load_experiment(outcome.experiment)
    fitness = experiment.predict(["MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"])  # (1,) float32

docs/python.md shows it at work. All of it is imported when it is first used, so that commands which train nothing wait
neither for torch nor for Optuna.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import torch
    from optuna import Study

    from search.combination import Combination
    from search.experiments.confirm.results import Confirmation
    from search.experiments.trained import TrainedExperiment
    from search.outcome import EndReason, StudyOutcome
    from search.request.search_request import SearchRequest
    from search.request.table_check import TableCheck
    from search.session import run_study
    from search.suggestion.plate import NextPlate
    from search.suggestion.replays.replayed import Replay
    from search.suggestion.several import PropertiesPlate

__all__ = [
    "EndReason",
    "SearchRequest",
    "StudyOutcome",
    "TableCheck",
    "check_table",
    "combine",
    "confirm",
    "load_experiment",
    "open_study",
    "predict",
    "replay",
    "run_study",
    "suggest",
]

_PLACES = {
    "EndReason": "search.outcome",
    "SearchRequest": "search.request.search_request",
    "StudyOutcome": "search.outcome",
    "TableCheck": "search.request.table_check",
    "run_study": "search.session",
}


def __getattr__(name: str) -> Any:
    """Import a name of the public ones when it is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)


def check_table(path: str | os.PathLike[str], **reading: Any) -> TableCheck:
    """Say what a table holds and what a search would do with it, as `data check` does; nothing is printed.

    Args:
        path: The file: CSV, TSV, FASTA, Parquet or Excel.
        reading: How it is read and divided, by the names of a search's options: `wild_type="wt.fasta"`,
            `target_column="activity"`, `split="random"`, `first_position=24`; see
            `search.request.search_request.TableOptions`.

    Raises:
        datasets.common.errors.UserError: Nothing can be said of it: it cannot be read, a column is missing, or a value
            is of another type. What is wrong with some of its rows is among the findings.
    """
    from search.request.table_check import checked_table

    return checked_table(path, reading)


def open_study(name: str, *, storage: str | None = None, runs_dir: str | os.PathLike[str] | None = None) -> Study:
    """Open a study to read its trials: `study.trials`, `study.best_trial`, `study.trials_dataframe()`.

    Args:
        name: As `status` shows it.
        storage: The database's URL; None is as for a search.
        runs_dir: The runs folder; None is the usual one.

    Raises:
        datasets.common.errors.UserError: There is no such database, or no such study in it.
    """
    from pathlib import Path

    from search.options.folders import usual_folder
    from search.request.inputs import open_existing
    from search.study.study import find_study

    folder = usual_folder("runs_dir")[0] if runs_dir is None else Path(runs_dir)
    return find_study(open_existing(storage, folder), name)


def confirm(experiment: str | os.PathLike[str], **settings: Any) -> Confirmation:
    """Train an experiment with new seeds, measure it on the sealed test set, and note that in its ledger.

    Args:
        experiment: Its file.
        settings: Those of `search.request.confirm_request.ConfirmRequest`, such as `seeds=3`.

    Raises:
        datasets.common.errors.UserError: It cannot be confirmed.
        search.workers.run_alone.Stopped: Ctrl-C came, or a run failed.
    """
    from pathlib import Path

    from search.confirmation import confirm as confirm_all
    from search.request.confirm_request import ConfirmRequest

    ((confirmation, _),) = confirm_all(ConfirmRequest(experiments=[Path(experiment)], **settings))
    return confirmation


def combine(studies: Sequence[str], *, export: str, **settings: Any) -> Combination:
    """Make an ensemble of the configurations of studies, and export it as one experiment.

    Args:
        studies: Their names; all of one task, data and validation.
        export: What the experiment is called.
        settings: Those of `search.request.combine_request.CombineRequest`, such as `members=4`.

    Raises:
        datasets.common.errors.UserError: They cannot be combined.
        search.workers.run_alone.Stopped: Ctrl-C came, or a run failed.
    """
    from search.combination import combine as combine_all
    from search.request.combine_request import CombineRequest

    return combine_all(CombineRequest(studies=studies, export=export, **settings))


def predict(
    experiments: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    candidates: Iterable[str] | str | os.PathLike[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Predict candidates and rank them, as the command `predict` does: its columns by their names.

    `pandas.DataFrame` makes a table of them: numbers are arrays, with NaN where the command leaves a cell empty.

    Args:
        experiments: The file of one experiment, or of several, a property each.
        candidates: A list of whole sequences, or the path of a file of candidates; None where `mutagenesis` names them.
        settings: Those of `search.properties.request.PredictRequest`, such as `top=100`, `mutagenesis="singles"`,
            `require=["stability>=0.5"]`, `no_distance=True`.

    Raises:
        datasets.common.errors.UserError: A setting, an experiment or a candidate is not what it has to be.
        TypeError: One sequence is given instead of a list, say.
    """
    from search.properties.predict import predict as predict_all

    return predict_all(experiments, candidates, settings)


def suggest(
    experiment: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, batch: int, **settings: Any
) -> NextPlate | PropertiesPlate:
    """Pick which candidates to measure next, and give them wells; docs/suggest.md says by what.

    Args:
        experiment: Its file; or a list of several, a property each, by all of which the batch is picked.
        batch: How many wells.
        settings: Those of `search.request.suggest_request.SuggestRequest`, such as `mutagenesis="singles"`.

    Raises:
        datasets.common.errors.UserError: A setting is not valid, or nothing can be picked.
    """
    import os
    from pathlib import Path

    from datasets.common.errors import UserError
    from search.request.suggest_request import SuggestRequest
    from search.suggestion.next_plate import next_plate

    paths = [experiment] if isinstance(experiment, str | os.PathLike) else [*experiment]
    if not paths:
        raise UserError("0 experiments are given: expected one, or several, a property each.")
    own = {"others": [Path(path) for path in paths[1:]], **settings}
    return next_plate(SuggestRequest(experiment=Path(paths[0]), batch=batch, **own))


def replay(experiment: str | os.PathLike[str], **settings: Any) -> Replay:
    """Play the rounds of an experiment's table again: what each acquisition would have found in them.

    Args:
        experiment: Its file; its table has a column of rounds.
        settings: Those of `search.request.replay_request.ReplayRequest`, such as `top=20`.

    Raises:
        datasets.common.errors.UserError: A setting is not valid, or no round can be played.
        search.workers.run_alone.Stopped: Ctrl-C came, or a run failed.
    """
    from pathlib import Path

    from search.request.replay_request import ReplayRequest
    from search.suggestion.replays.replay import replay as play

    return play(ReplayRequest(experiment=Path(experiment), **settings))


def load_experiment(
    path: str | os.PathLike[str],
    *,
    weights_dir: str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
    quiet: bool = False,
) -> TrainedExperiment:
    """Load a frozen experiment with the weights that stand beside it.

    Args:
        path: The experiment, `studies/experiment/NAME.yaml`; its weights stand in the folder `NAME` beside it.
        weights_dir: Where pretrained weights (NAME.pt) are looked for first.
        device: None is the GPU if there is one.
        quiet: Say nothing on standard error, such as how many of the sequences lack a score that the model sees.

    Raises:
        datasets.common.errors.UserError: The experiment or its weights are missing, were changed, or do not fit
            together.
    """
    from pathlib import Path

    import torch

    from datasets.common.paths import Places
    from search.experiments.trained import TrainedExperiment
    from search.machine.standard_streams import announcer
    from search.options.folders import usual_folder

    return TrainedExperiment(
        Path(path),
        places=Places(
            weights_dir=None if weights_dir is None else Path(weights_dir),
            cache_dir=usual_folder("runs_dir")[0] / "cache",
        ),
        device=None if device is None else torch.device(device),
        announce=announcer(quiet),
    )
