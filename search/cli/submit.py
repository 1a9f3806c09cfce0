"""The submit command: workers of a search as jobs of SLURM, or as a Job of Kubernetes."""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import write_text
from datasets.tables.parts import in_order
from datasets.tables.table import ALL_FOLDS
from search.checkout import ROOT
from search.cli.search import request_of
from search.cluster import slurm
from search.cluster.jobs import Jobs, SlurmJobs
from search.cluster.kubernetes import as_yaml, manifest
from search.cluster.records import SCRIPT, Record, folder_of, new_folder, read_records, write_record, write_storage
from search.cluster.slurm_script import STORAGE_FILE, batch_script
from search.cluster.studies import storage_of, study_of
from search.machine.standard_streams import announcer, printable
from search.machine.tables import in_columns
from search.options.folders import option
from search.reporting.proposals import Proposals
from search.request.inputs import check_writable, existing
from search.request.search_request import DataOptions
from search.request.user_data import user_data
from search.request.user_table import survey_of
from search.request.warm_start import check_warm_start_of
from search.storage.database import Database, open_database
from search.storage.hide_url import without_storage
from search.study.run_names import is_reserved

_READ_BY_A_SEARCH = (
    "FLIPSEARCH_ARTIFACTS",
    "FLIPSEARCH_DATA",
    "FLIPSEARCH_MODELS",
    "FLIPSEARCH_MEMORY_SHARE",
    "PYTHONPATH",
)
"""They reach the jobs whatever sbatch is told about the environment."""


def run_submit(arguments: argparse.Namespace) -> int:
    """Submit, show or cancel jobs; returns the exit status."""
    if arguments.status:
        return _show(arguments)
    if arguments.cancel:
        return _cancel(arguments)
    return _kubernetes(arguments) if arguments.kubernetes else _slurm(arguments)


def _slurm(arguments: argparse.Namespace) -> int:
    announce = announcer(arguments.quiet)
    study = _study(arguments)
    if is_reserved(study):
        raise UserError(f"A study cannot be called {study!r}, which is a name of the program's own: choose another.")
    url, storage_words = storage_of(arguments.storage, arguments.runs_dir, announce)
    for line in arguments.setup:
        _check_shell(line)
    folder = folder_of(arguments.runs_dir, study) / "DATE"
    jobs = SlurmJobs(
        study=study,
        words=_words(arguments, storage_words),
        n_jobs=arguments.jobs,
        gpus=arguments.gpus,
        cpus=arguments.cpus,
        memory=arguments.memory,
        drain_s=arguments.drain_time,
        program=[sys.executable, str(ROOT / "run_study.py")],
        directory=Path.cwd(),
        folder=folder,
        environment={name: os.environ[name] for name in _READ_BY_A_SEARCH if os.environ.get(name)},
        has_storage_file=url is not None,
        time_s=arguments.time,
        partition=arguments.partition,
        account=arguments.account,
        setup=arguments.setup,
        options=arguments.sbatch_options,
    )
    script = _text(batch_script(jobs))
    if not arguments.dry_run:
        check_writable(arguments.runs_dir)
    # What would stop every job is said now.
    if url is not None and not arguments.dry_run:
        database: Database | None = open_database(url, create=True, patience_s=2.0)
    else:
        database = existing(arguments.storage, arguments.runs_dir) if arguments.warm_start else None
    check_warm_start_of(study, arguments.warm_start, database)
    if arguments.dry_run:
        print(script, end="")
        return 0
    folder = new_folder(arguments.runs_dir, study)
    script = batch_script(replace(jobs, folder=folder))
    try:
        write_text(folder / SCRIPT, script)
        if url is not None:
            write_storage(folder, url, os.environ.get("PGPASSWORD"))
        number = slurm.submit(script, Path.cwd())
    except (UserError, OSError):
        shutil.rmtree(folder, ignore_errors=True)  # SLURM took no job
        raise
    workers = "1 worker" if arguments.jobs == 1 else f"{arguments.jobs} workers"
    print(f"Submitted job {number}: {workers} of study {study}. Script and logs: {folder}")
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M}"
    write_record(folder, Record(job=number, study=study, n_jobs=arguments.jobs, submitted=now))
    propose = Proposals.of(arguments).command
    print(f"Look at them:  {propose('submit', '--status', '--study-name', study)}")
    print(f"Cancel them:   {propose('submit', '--cancel', '--study-name', study)}")
    return 0


def _kubernetes(arguments: argparse.Namespace) -> int:
    if not arguments.dry_run:
        raise UserError(
            "submit --kubernetes changes no cluster: add --dry-run, and pipe what it prints into `kubectl apply -f -`."
        )
    # A table is where the pods find it, on this machine perhaps not.
    study = _study(arguments) if arguments.data is None else arguments.study_name or arguments.task
    jobs = Jobs(
        study=study,
        words=[*map(_text, _words(arguments, []))],
        n_jobs=arguments.jobs,
        gpus=arguments.gpus,
        cpus=arguments.cpus,
        memory=arguments.memory,
        drain_s=arguments.drain_time,
    )
    where = {"secret": arguments.storage_secret, "volume_claim": arguments.volume_claim}
    # What a table's study is called, the pods find out: its file alone would be one name for all of them.
    apart = jobs.words if arguments.data is not None and arguments.study_name is None else ()
    print(as_yaml(manifest(jobs, image=arguments.image, apart=apart, **where)), end="")
    return 0


def _study(arguments: argparse.Namespace) -> str:
    """What the jobs are named by; refuses what a search would refuse."""
    announce = announcer(arguments.quiet)
    given = {"test_fold": _first_fold(arguments)} if arguments.test_fold == ALL_FOLDS else {}
    options = DataOptions.of(arguments, **given)
    data = user_data(options, arguments.task, arguments.runs_dir, announce, arguments.overrides)
    requests = [request_of(arguments, **given)]
    if arguments.models:
        name = arguments.study_name
        requests = [
            request_of(arguments, model=model, study_name=name and f"{name}-{model}", **given)
            for model in arguments.models
        ]
    return study_of(requests, data, all_folds=arguments.test_fold == ALL_FOLDS)


def _first_fold(arguments: argparse.Namespace) -> str:
    """The fold of which the first of several studies is about; what a search would refuse of it holds for all."""
    found = survey_of(arguments.data, DataOptions.of(arguments, test_fold=None))
    found.findings.raise_refused()
    assert found.landscape.fold is not None, "--test-fold needs a --fold-column"
    return in_order(found.landscape.fold)[0]


def _words(arguments: argparse.Namespace, storage: list[str]) -> list[str]:
    """The words of the search that each job runs; folders that no option names are named."""
    words, _ = without_storage(arguments.search_words)
    named = arguments.folders_from.items()
    if arguments.slurm:
        for name in (name for name, source in named if source not in (option(name), "default")):
            words += [option(name), str(getattr(arguments, name))]
    return [*words, *storage]


def _text(text: str) -> str:
    """The text, of which a file can be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(
            "The command line, or the name of the folder, holds bytes that are no UTF-8: jobs cannot be given them."
        ) from None
    return text


def _check_shell(line: str) -> None:
    try:
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True)
    except OSError:
        return  # no bash here: the job says so
    if done.returncode:
        raise UserError(f"--setup {line!r} is no whole line of shell: see whether its quotation marks are closed.")


def _show(arguments: argparse.Namespace) -> int:
    rows = [("study", "job", "workers", "submitted", "state")]
    queued = {}
    for folder, record in read_records(arguments.runs_dir, arguments.study_name):
        if record.study not in queued:
            queued[record.study] = slurm.queue(record.study)
        states = Counter(
            job.state.lower() if job.state != "PENDING" else f"pending ({job.reason})"
            for job in queued[record.study]
            if job.array == record.job
        )
        words = ", ".join(f"{n} {printable(state)}" for state, n in states.items())
        ended = f"ended; logs in {folder}"
        rows.append((record.study, str(record.job), str(record.n_jobs), f"{record.submitted} UTC", words or ended))
    if len(rows) == 1:
        whose = "" if arguments.study_name is None else f" of study {arguments.study_name!r}"
        print(f"No job{whose} was submitted from {arguments.runs_dir}.")
        return 0
    print(in_columns(rows))
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    study = arguments.study_name
    found = list(read_records(arguments.runs_dir, study))
    queued = {job.array for job in slurm.queue(study)} if found else set()
    arrays = [record.job for _, record in found if record.job in queued]
    if not arrays:
        print(f"No job of study {study!r} that was submitted from {arguments.runs_dir} waits or runs.")
        return 0
    slurm.cancel(arrays)
    for folder, record in found:
        if record.job in arrays:
            (folder / STORAGE_FILE).unlink(missing_ok=True)  # a password is kept for no longer than a job needs it
    shown = ", ".join(map(str, arrays))
    print(f"Cancelled {shown} of study {study}: trials that ran are run again by the next workers.")
    return 0
