"""The script that SLURM runs for each worker: it searches, drains near its time limit, and goes back into the queue.

`--signal=B:TERM` tells the script alone, `scancel` and preemption all of its processes. So the script passes on what it
is told, and asks SLURM which of the two it was: a job that is cancelled does not queue itself again.
"""

import re
import shlex

from datasets.common.errors import UserError
from search.cluster.jobs import SlurmJobs
from search.options.values import STOP_S

STORAGE_FILE = "storage"
"""In the folder of what was submitted: the URL in its first line, the password of the environment in its second."""


def job_name(study: str) -> str:
    """The name of a study's jobs."""
    return f"flipsearch-{study}"


def batch_script(jobs: SlurmJobs) -> str:
    """The whole script.

    Raises:
        UserError: The name of the folder cannot stand in an #SBATCH line.
    """
    options = [f"#SBATCH {option}\n" for option in _options(jobs)]
    exported = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(jobs.environment.items())]
    setup = [f"{line}\nset_up {shlex.quote(line)}\n" for line in jobs.setup]
    return "".join(
        [
            "#!/bin/bash\n",
            *options,
            _BEGIN.format(stop_s=STOP_S - 10, left_s=jobs.drain_s - STOP_S, directory=shlex.quote(str(jobs.directory))),
            *exported,
            *setup,
            "set +eu\n" if setup else "",  # what a line of set-up may have asked for would end the script half way
            _STORAGE.format(file=shlex.quote(str(jobs.folder / STORAGE_FILE))) if jobs.has_storage_file else "",
            f'\n[ -z "$near_end" ] || again\n{shlex.join([*jobs.program, *jobs.words])} &\n',
            _END,
        ]
    )


def _options(jobs: SlurmJobs) -> list[str]:
    log = str(jobs.folder / "%a.log")
    if not re.fullmatch(r"[A-Za-z0-9_./,:@+=~-]+%a\.log", log):
        raise UserError(
            f"The folder {str(jobs.folder)!r} has a character that an #SBATCH line does not take (letters, digits and "
            "_ . / , : @ + = ~ - are taken): name another --runs-dir."
        )
    given = {
        "time": None if jobs.time_s is None else _clock(jobs.time_s),
        "partition": jobs.partition,
        "account": jobs.account,
        "gres": None if jobs.gpus is None else f"gpu:{jobs.gpus}",
        "cpus-per-task": jobs.cpus,
        "mem": jobs.memory,
    }
    options = [
        f"--job-name={job_name(jobs.study)}",
        f"--array=1-{jobs.n_jobs}",
        "--ntasks=1",
        "--requeue",
        f"--signal=B:TERM@{jobs.drain_s}",
        "--open-mode=append",
        f"--output={log}",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        *jobs.options,
    ]
    for option in options:
        if not option.isascii() or not option.isprintable() or " " in option or "#" in option:
            raise UserError(f"{option!r} cannot stand in an #SBATCH line: leave out what is no plain character.")
    return options


def _clock(seconds: int) -> str:
    """`1-02:30:00`."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


# A master's id stands for all of an array, and one element has the master's id: so each is named by its place.
_BEGIN = """\
# Written by `submit --slurm`: sbatch was given this text.

job="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
near_end=
worker=
timer=

say() {{ echo "$(date '+%Y-%m-%d %H:%M:%S') job $job on $HOSTNAME: $*" >&2; }}
fail() {{ say "error: $*"; exit 2; }}
set_up() {{ local status=$?; [ $status = 0 ] || fail "the set-up line '$1' ended with status $status."; }}

# Whether SLURM lets this job run, as it does near the time limit; a controller that does not answer has ended nothing.
runs_on() {{
    local try state
    for try in 1 2 3; do
        if state=$(squeue --noheader --jobs="$job" --format=%T 2>/dev/null); then
            [ "$state" = RUNNING ]
            return $?  # in a trap, a bare one would be the status of what was interrupted
        fi
        sleep 2
    done
    return 0
}}

# SLURM runs this script again, in place of what is left of it here.
again() {{
    trap '' TERM  # it comes as soon as SLURM has agreed, to scontrol too
    if ! runs_on; then
        say "SLURM ends this job; what it had not finished is run by other workers."
    elif scontrol requeue "$job"; then
        say "back into the queue, to go on with the study."
    else
        say "error: SLURM does not take this job back into its queue: submit the same command again."
    fi
    exit "${{1:-143}}"
}}

drain() {{
    [ -n "$worker" ] && [ -z "$timer" ] || return 0
    if runs_on; then
        say "the time limit is near: trials that run have {left_s} s to finish, none is started."
        kill -INT "$worker"
        {{
            sleep {left_s}
            say "trials that still run are stopped, and run again from their last epoch."
            kill -TERM "$worker"
            sleep {stop_s}
            kill -KILL "$worker"  # to be back in the queue before SLURM ends the job for good
        }} &
        timer=$!
    else
        say "SLURM ends this job: trials that run are stopped, and run again from their last epoch."
        kill -TERM "$worker"
    fi
}}
trap 'near_end=yes; told=yes; drain' TERM

cd -- {directory} || fail "the search's folder is not on this machine."
"""

_STORAGE = """
# The database's URL, which may hold a password: from a file that this user alone may read.
storage={file}
if [ -L "$storage" ] || [ ! -O "$storage" ] || [ "$(stat --format=%a -- "$storage")" != 600 ]; then
    fail "$storage is missing, or not a file of mode 600 of this user: submit the same command again."
fi
{{ IFS= read -r FLIPSEARCH_STORAGE; IFS= read -r PGPASSWORD; }} <"$storage"
export FLIPSEARCH_STORAGE
if [ -n "$PGPASSWORD" ]; then export PGPASSWORD; else unset PGPASSWORD; fi
"""

_END = """\
worker=$!
[ -z "$near_end" ] || drain
while :; do
    told=
    wait "$worker"
    status=$?
    [ -n "$told" ] || break
done
if [ -n "$timer" ]; then
    kill "$timer"
    wait "$timer"
fi 2>/dev/null
case "$near_end $status" in
    "yes 130" | "yes 143" | "yes 137") again "$status" ;;
esac
exit "$status"
"""
