"""The doctor command: everything that a search needs, checked, with a remedy for each finding."""

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict

from datasets.tasks.flip_files import cache_folder
from search.doctor.database import check_database
from search.doctor.finding import Diagnosis, with_closed_folders
from search.doctor.inputs import check_data, check_weights_dir
from search.doctor.machine import check_disk, check_gpus, check_packages, check_python, check_torch
from search.options.folders import option
from search.request.inputs import places_of, url_of
from search.storage.url import parse_url


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print one line for each finding, as it comes; exit status 1 if a problem is among them.

    Raises:
        UserError: A folder that was named does not exist, or the storage URL is malformed.
    """
    with contextlib.suppress(PermissionError):  # that is a finding, below
        places_of(arguments.weights_dir, arguments.runs_dir)  # refuses a folder of weights that is not there
    url = parse_url(url_of(arguments.storage, arguments.runs_dir))
    findings: list[Diagnosis] = []

    def every() -> Iterator[Diagnosis]:
        yield check_python()
        yield from check_packages()
        yield check_torch()
        yield from check_gpus()
        for name, source in arguments.folders_from.items():
            yield check_disk(getattr(arguments, name), f"name another with {option(name)}", source)
        yield check_disk(cache_folder(), "set $XDG_CACHE_HOME to another")
        yield from with_closed_folders("data", check_data(arguments.task, arguments.data_dir))
        yield from with_closed_folders("weights", check_weights_dir(arguments.weights_dir))
        database = check_database(url, arguments.runs_dir if arguments.repair else None)
        yield from with_closed_folders("database", database)

    for finding in every():
        findings.append(finding)
        if not arguments.json:
            print(finding.line(), flush=True)
    n_problems = sum(finding.level == "problem" for finding in findings)
    n_warnings = sum(finding.level == "warning" for finding in findings)
    if arguments.json:
        about = {"n_problems": n_problems, "n_warnings": n_warnings}
        print(json.dumps({**about, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(f"{n_problems} problem(s), {n_warnings} warning(s).")
    return 1 if n_problems else 0
