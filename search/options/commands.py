"""The commands: what each is for, its options, and where it is run. A command is an entry in the table at the end.

Read before every usage error, so nothing here imports more than the standard library.
"""

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass

from search.options import of_commands as options
from search.options import of_experiments, of_submit, of_suggest
from search.options.parser import Parser


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the program.

    `summary` stands in the list of commands, `description` in its own help. `target` names its module and
    function, which takes the parsed arguments and returns the exit status: imported when it is called, so that
    usage errors do not wait for libraries.
    """

    summary: str
    description: str
    target: str
    add_options: Callable[[Parser], None]
    takes_overrides: bool = False

    def run(self, arguments: argparse.Namespace) -> int:
        """Run it and return the exit status."""
        module, _, name = self.target.partition(":")
        function: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
        return function(arguments)


COMMANDS = {
    "search": Command(
        summary="the search itself, which is what runs where no command is named",
        description="Search the hyperparameters of a protein fitness model; the same command resumes its study.",
        target="search.cli.searches:run_searches",
        add_options=options.search_options,
        takes_overrides=True,
    ),
    "submit": Command(
        summary="start workers of a search on a cluster: SLURM, Kubernetes",
        description="Submit a search as jobs of a cluster, each a worker of the same study: the options are those of "
        "the search.",
        target="search.cli.submit:run_submit",
        add_options=of_submit.submit_options,
        takes_overrides=True,
    ),
    "train": Command(
        summary="one run without a search, from a config or a frozen experiment",
        description="Train once, without a search.",
        target="search.cli.experiments.train_and_verify:run_train",
        add_options=options.train_options,
        takes_overrides=True,
    ),
    "verify": Command(
        summary="train a frozen experiment again and compare every number",
        description="Train a frozen experiment again. Exit status 0: the same numbers; 1: they differ; 2: the file is "
        "not intact.",
        target="search.cli.experiments.train_and_verify:run_verify",
        add_options=of_experiments.verify_options,
    ),
    "confirm": Command(
        summary="train an experiment over new seeds and measure it on the test set",
        description="Train an experiment over new seeds and measure it on the test set: the only command that reads "
        "it. Every reading is kept in the ledger beside the experiment, and noted in the study's database.",
        target="search.cli.experiments.confirm:run_confirm",
        add_options=of_experiments.confirm_options,
    ),
    "combine": Command(
        summary="make an ensemble of the configurations of studies, as one experiment",
        description="Select configurations of one study or several by what they predicted out of fold, and export "
        "them with weights as one experiment, which is verified, confirmed and predicted with like any other.",
        target="search.cli.experiments.combine:run_combine",
        add_options=of_experiments.combine_options,
    ),
    "predict": Command(
        summary="rank candidates, or variants of the wild type, with an experiment's weights",
        description="Predict and rank any number of candidates with the weights that stand beside an experiment.",
        target="search.cli.experiments.predict:run_predict",
        add_options=of_experiments.predict_options,
    ),
    "suggest": Command(
        summary="the next plate: which candidates to measure, in wells, with controls; --replay plays past ones",
        description="Pick the candidates to measure next, by what an experiment predicts of them and how far off it "
        "may be, and write them with controls as a plate; or play past rounds again, with --replay.",
        target="search.cli.experiments.suggest:run_suggest",
        add_options=of_suggest.suggest_options,
    ),
    "status": Command(
        summary="where studies stand; --watch follows one",
        description="Where studies stand.",
        target="search.cli.studies.status:run_status",
        add_options=options.status_options,
    ),
    "drain": Command(
        summary="let the workers of a study finish their trials and end",
        description="Let every worker of a study finish its trial, start none, and end.",
        target="search.cli.studies.control:run_control",
        add_options=options.study_options,
    ),
    "pause": Command(
        summary="let them finish their trials and wait",
        description="Let every worker of a study finish its trial, and wait for resume or drain.",
        target="search.cli.studies.control:run_control",
        add_options=options.study_options,
    ),
    "resume": Command(
        summary="let them go on",
        description="Let the workers of a paused or draining study go on.",
        target="search.cli.studies.control:run_control",
        add_options=options.study_options,
    ),
    "requeue": Command(
        summary="queue a failed trial again",
        description="Queue a trial that failed, or ran out of memory or time, once more.",
        target="search.cli.studies.requeue:run_requeue",
        add_options=options.requeue_options,
    ),
    "data": Command(
        summary="check a table of your own, list the tasks, fetch a task's file",
        description="Check a table of your own, list the tasks, or fetch a task's file.",
        target="search.cli.data:run_data",
        add_options=options.data_options,
    ),
    "doctor": Command(
        summary="check machine, database, data and weights, with a remedy for each finding",
        description="Check what a search needs; nothing is downloaded, and without --repair nothing is changed. Exit "
        "status 0: no problems; 1: some.",
        target="search.cli.doctor:run_doctor",
        add_options=options.doctor_options,
    ),
    "report": Command(
        summary="one HTML file about a study, which opens without network",
        description="Write one HTML file about a study: what was searched, what came of it, and how to repeat it.",
        target="search.cli.studies.report:run_report",
        add_options=options.report_options,
    ),
    "compare": Command(
        summary="studies and confirmed experiments on a task beside published results",
        description="Compare every study and every confirmed experiment on a task with published results: a table, "
        "and a figure as HTML, PNG and SVG.",
        target="search.cli.compare:run_compare",
        add_options=options.compare_options,
    ),
    "dashboard": Command(
        summary="show studies, trials and their files in a browser",
        description="Show studies, trials and their files in a browser, until Ctrl-C.",
        target="search.cli.studies.dashboard:run_dashboard",
        add_options=options.dashboard_options,
    ),
    "serve": Command(
        summary="a Postgres of your own for the studies, without an administrator",
        description="Run a Postgres of your own for the studies until Ctrl-C, or copy its studies into a file and "
        "back. The first call makes it, with a password in a file; the same command starts it again.",
        target="search.cli.serve:run_serve",
        add_options=options.serve_options,
    ),
    "init": Command(
        summary="create the database's tables, and a role that may only read them",
        description="Create the database's tables where they are missing and, on Postgres, a role that may only read "
        "them.",
        target="search.cli.init:run_init",
        add_options=options.init_options,
    ),
}


def options_of(name: str) -> frozenset[str]:
    """The options of a command, as they are written."""
    parser = Parser(add_help=False)
    COMMANDS[name].add_options(parser)
    return frozenset(parser.flags)
