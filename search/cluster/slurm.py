"""SLURM's own commands: an array is submitted, looked at and cancelled."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.common.errors import UserError
from search.cluster.slurm_script import job_name
from search.machine.standard_streams import printable

_PATIENCE_S = 120.0
_SECRETS = ("PGPASSWORD", "FLIPSEARCH_STORAGE")
"""SLURM keeps a job's environment in files of its own; these the script reads from a file of the user's."""


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """One job of an array as the queue shows it."""

    array: int
    state: str
    reason: str


def submit(script: str, folder: Path) -> int:
    """Give the script to sbatch and return the array's number.

    Raises:
        UserError: There is no sbatch, or it refuses.
    """
    said = _run(["sbatch", "--parsable"], script=script, folder=folder)
    number = re.fullmatch(r"([0-9]{1,10})(;[A-Za-z0-9_.-]+)?", said.strip().rpartition("\n")[2])
    if number is None:
        raise UserError(
            f"sbatch did not answer with a job's number but with {printable(said.strip())[:200]!r}: `squeue` shows "
            "whether it took the job."
        )
    return int(number[1])


def queue(study: str) -> list[QueuedJob]:
    """The jobs of a study that wait or run, of this user.

    Raises:
        UserError: There is no squeue, or it fails.
    """
    words = ["--noheader", "--array", f"--user={os.geteuid()}", f"--name={job_name(study)}", "--format=%F|%T|%r|%j"]
    jobs = []
    for line in _run(["squeue", *words]).splitlines():
        parts = line.strip().split("|", 3)
        if len(parts) == 4 and parts[0].isdecimal() and len(parts[0]) <= 10 and parts[3] == job_name(study):
            array, state, reason, _ = parts
            jobs.append(QueuedJob(array=int(array), state=state, reason=reason))
    return jobs


def cancel(arrays: Sequence[int]) -> None:
    """Cancel whole arrays.

    Raises:
        UserError: There is no scancel, or it refuses.
    """
    _run(["scancel", *map(str, arrays)])


def _run(command: Sequence[str], *, script: str | None = None, folder: Path | None = None) -> str:
    program = shutil.which(command[0])
    if program is None:
        raise UserError(
            f"There is no {command[0]} on this machine's PATH: run this on a machine that submits to SLURM, or look at "
            "the script with --dry-run."
        )
    try:
        done = subprocess.run(
            [program, *command[1:]],
            input=script or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            cwd=folder,
            env=_environment(os.environ),
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} did not answer within {_PATIENCE_S:.0f} s: see whether SLURM runs.") from None
    except OSError as error:
        raise UserError(f"{program} cannot be run ({error.strerror}).") from None
    if done.returncode:
        why = printable(" ".join((done.stderr or done.stdout).split()))[:500] or f"exit status {done.returncode}"
        raise UserError(f"{command[0]} refused: {why}")
    return done.stdout


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name not in _SECRETS}
