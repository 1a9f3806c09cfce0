"""A stand-in for SLURM's commands: `python stand_in_slurm.py FOLDER sbatch|squeue|scontrol|scancel ...`.

It runs each job of an array at once, as a process group of its own on this machine, with what SLURM promises: the
warning before the time limit reaches the script alone, `scancel` and `scontrol requeue` end all of its processes, and
whoever is queued again runs again. The state of a job is a file in FOLDER; without one it has ended. Of partitions,
`held` runs nothing, and `no-such` is refused.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

KILL_WAIT_S = 10.0


def main(folder: Path, command: str, words: list[str]) -> int:
    """Answer as the command would."""
    if command == "sbatch":
        return sbatch(folder, words)
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    names = [word for word in words if not word.startswith("--")]
    if command == "squeue":
        return squeue(folder, options)
    if command == "scontrol":
        assert names[0] == "requeue", names
        (folder / f"{names[1]}.requeue").touch()
        return 0
    for name in names:
        for state in folder.glob(f"{name}.state" if "_" in name else f"{name}_*.state"):
            job = state.name.removesuffix(".state")
            if options.get("signal"):
                assert options == {"signal": "TERM", "batch": ""}, options
                os.kill(int((folder / f"{job}.pid").read_text()), signal.SIGTERM)
            elif (folder / f"{job}.pid").exists():
                (folder / f"{job}.cancel").touch()
            else:
                state.unlink()
    return 0


def sbatch(folder: Path, words: list[str]) -> int:
    """Take a script from standard input, and start what runs its jobs."""
    assert words == ["--parsable"], words
    script = sys.stdin.read()
    given = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.M))
    if given.get("partition") == "no-such":
        print("sbatch: error: invalid partition specified: no-such", file=sys.stderr)
        return 1
    number = next(n for n in range(1, 10_000) if not (folder / f"{n}.sh").exists())
    (folder / f"{number}.sh").write_text(script)
    (folder / f"{number}.environment").write_text("".join(f"{key}={value}\n" for key, value in os.environ.items()))
    for place in range(1, int(given["array"].partition("-")[2]) + 1):
        _say(folder, f"{number}_{place}", "PENDING", given["job-name"])
        if given.get("partition") == "held":
            continue
        subprocess.Popen(
            [sys.executable, __file__, str(folder), "run", str(number), str(place)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    print(f"{number};stand-in")
    return 0


def squeue(folder: Path, options: dict[str, str]) -> int:
    """One line a job, as --format says."""
    for path in sorted(folder.glob("*.state")):
        job = path.name.removesuffix(".state")
        state, _, name = path.read_text().partition(" ")
        if options.get("jobs", job) == job and options.get("name", name) == name:
            values = {"%F": job.partition("_")[0], "%T": state, "%r": "None", "%j": name}
            print(re.sub(r"%[A-Za-z]", lambda found, values=values: values[found[0]], options["format"]))
    return 0


def run(folder: Path, number: int, place: int) -> None:
    """Run one job, as often as it is queued again."""
    script = (folder / f"{number}.sh").read_text()
    given = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.M))
    job, name = f"{number}_{place}", given["job-name"]
    log = given["output"].replace("%a", str(place))
    while True:
        with open(log, "ab") as file:
            process = subprocess.Popen(
                ["bash", str(folder / f"{number}.sh")],
                env={**os.environ, "SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(place)},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        (folder / f"{job}.pid").write_text(str(process.pid))
        _say(folder, job, "RUNNING", name)
        is_cancelled = (folder / f"{job}.cancel").exists
        is_requeued = (folder / f"{job}.requeue").exists
        while process.poll() is None and not is_cancelled() and not is_requeued():
            time.sleep(0.05)
        if process.poll() is None:
            _say(folder, job, "COMPLETING", name)
            _end(process)
        if is_cancelled() or not is_requeued():
            break
        _say(folder, job, "PENDING", name)
        (folder / f"{job}.requeue").unlink()
    (folder / f"{job}.state").unlink()


def _end(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _say(folder: Path, job: str, state: str, name: str) -> None:
    beside = folder / f"{job}.beside"
    beside.write_text(f"{state} {name}")
    beside.replace(folder / f"{job}.state")


if __name__ == "__main__":
    if sys.argv[2] == "run":
        run(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]))
        sys.exit(0)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
