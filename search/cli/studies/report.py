"""The report command: one study as one HTML file."""

import argparse
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import STANDARD, check_output, output, refuse_same_file
from datasets.tasks.flip import FlipSource
from datasets.tasks.flip_files import find_local_file
from search.config.run_config import task_of
from search.experiments.experiment import load_experiment
from search.experiments.exports import find_export
from search.reporting.dashboard_note import REPORT
from search.reporting.proposals import Proposals
from search.reporting.study_report import make_report
from search.request.inputs import load_split, open_existing
from search.storage.attributes import MANIFEST
from search.storage.url import sqlite_path
from search.study.study import find_study


def run_report(arguments: argparse.Namespace) -> int:
    """Write the report of a study and say where."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    study = find_study(database, arguments.study_name)
    if MANIFEST not in study.user_attrs:
        raise UserError(f"Study {study.study_name!r} has no manifest, so flipsearch did not make it: name another.")
    path: Path = arguments.output or arguments.runs_dir / study.study_name / REPORT
    export = arguments.export_dir / f"{study.study_name}.yaml"
    check_output(path, makes_folder=True)
    refuse_same_file(export, path, "the experiment")
    if (held := sqlite_path(database.storage.engine.url)) is not None:
        refuse_same_file(held, path, "the database")
    text = make_report(
        study,
        runs=arguments.runs_dir,
        export=export,
        proposals=Proposals.of(arguments),
        database=database,
        split=_split(find_export(export, study), arguments.runs_dir),
        has_map=True,
    )
    with output(path, makes_folder=True) as file:
        file.write(text)
    if path != STANDARD:
        print(f"Report: {path}")
    return 0


def _split(export: Path | None, runs: Path) -> Path | None:
    """The prepared rows of an experiment whose data is on this machine; None elsewhere: nothing is downloaded."""
    if export is None:
        return None
    try:
        task = task_of(load_experiment(export).config)
        if isinstance(task.source, FlipSource) and find_local_file(task.dataset, data_dir=None) is None:
            return None
        return load_split(task, None, runs, announce=lambda sentence: None).path
    except UserError:
        return None
