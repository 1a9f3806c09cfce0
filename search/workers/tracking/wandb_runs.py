"""Trials as runs of Weights & Biases: in the study's folder, for `wandb sync`, unless the environment says online."""

import os
from pathlib import Path

# It would report its own errors to its makers.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from search.workers.tracking.record import TrialRecord

_PROJECT = "flipsearch"
_PATIENCE_S = 30  # a server that does not answer keeps a worker from its next trial


class WandbRuns:
    """A run for each trial, in one group for each study.

    `WANDB_MODE=online` in the environment has them uploaded as they end; without it nothing leaves the machine.
    """

    def __init__(self, folder: Path, *, project: str = _PROJECT) -> None:
        self._folder, self._project = folder, project
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, trial: TrialRecord) -> None:
        """Write, and perhaps upload, a trial that has ended."""
        # Nothing of the machine, the command line (which may hold the database's URL), the code or the console.
        settings = wandb.Settings(
            console="off",
            init_timeout=_PATIENCE_S,
            silent=True,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            symlink=False,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        mode = os.environ.get("WANDB_MODE") or "offline"
        run = wandb.init(
            project=self._project,
            group=trial.study,
            name=trial.name,
            job_type="trial",
            tags=[trial.state, trial.model],
            dir=str(self._folder),
            config={
                **trial.params,
                "study": trial.study,
                "trial": trial.number,
                "task": trial.task,
                "model": trial.model,
            },
            mode=mode,  # type: ignore[arg-type]  # it says itself which words there are
            reinit="create_new",
            settings=settings,
        )
        try:
            for step, fold, epoch, value in trial.values:
                run.log({"validation_spearman": value, "fold": fold, "epoch": epoch}, step=step)
            run.summary.update(
                {
                    "study": trial.study,
                    "trial": trial.number,
                    "state": trial.state,
                    "ending": trial.ending,
                    "seconds": trial.seconds,
                    **({} if trial.value is None else {"value": trial.value}),
                    **({} if trial.n_parameters is None else {"n_parameters": trial.n_parameters}),
                }
            )
        finally:
            run.finish(exit_code=1 if trial.state == "failed" else 0)

    def close(self) -> None:
        """End their process."""
        wandb.teardown()
