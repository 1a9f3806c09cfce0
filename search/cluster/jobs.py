"""What a scheduler is asked for: how many workers, of which size, with which words of the search."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Workers of one search.

    Args:
        study: Its study's name, or what the names of its studies begin with.
        words: Of the search's command line; no URL of a database is among them.
        n_jobs: So many workers, each with a machine or a part of one.
        gpus: Of each, `2` or `a100:2`; None without.
        cpus: Of each; None leaves it to the cluster.
        memory: Of each, a whole number and M, G or T of 1,024 each; None leaves it to the cluster.
        drain_s: So long before the end of its time a worker starts no more trials.
    """

    study: str
    words: Sequence[str]
    n_jobs: int = 1
    gpus: str | None = None
    cpus: int | None = None
    memory: str | None = None
    drain_s: int = 90


@dataclass(frozen=True, kw_only=True)
class SlurmJobs(Jobs):
    """The same as an array of SLURM.

    Args:
        program: The interpreter and run_study.py, as absolute paths.
        directory: Where the search runs.
        folder: For logs and the storage's file, absolute; see `search.cluster.records`.
        environment: Variables that the search reads.
        has_storage_file: Whether the database's URL is in the folder's file, as opposed to a file of SQLite.
        time_s: The limit of each job, in seconds; None is the partition's.
        partition, account: None is the user's default.
        setup: Lines of shell that are run first, as they are.
        options: Others of sbatch.
    """

    program: Sequence[str]
    directory: Path
    folder: Path
    environment: dict[str, str]
    has_storage_file: bool
    time_s: int | None = None
    partition: str | None = None
    account: str | None = None
    setup: Sequence[str] = ()
    options: Sequence[str] = ()
