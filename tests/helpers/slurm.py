"""Clusters to submit to: SLURM's own daemons from Debian's packages, or a stand-in for its commands."""

import contextlib
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT, WAIT_S

_DAEMONS = ("munged", "slurmctld", "slurmd")
_COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")
_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """Somewhere to submit to: `environment` is that of whoever does."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def command(self, *words: str) -> str:
        """What one of the cluster's commands prints."""
        return subprocess.run(
            words, env={**os.environ, **self.environment}, check=True, capture_output=True, text=True
        ).stdout

    def queued(self) -> list[str]:
        """The states of the jobs that have not ended."""
        return self.command("squeue", "--noheader", "--array", "--format=%T").split()

    def warn(self, job: str) -> None:
        """Tell the script of `NUMBER_PLACE` what SLURM tells it before the time limit."""
        self.command("scancel", "--signal=TERM", "--batch", job)

    def wait_until_ended(self) -> None:
        """Until no job waits or runs."""
        deadline = time.monotonic() + 2 * WAIT_S
        while states := self.queued():
            assert time.monotonic() < deadline, states
            time.sleep(0.2)

    def clear(self) -> None:
        """End what a test left."""
        for number in set(self.command("squeue", "--noheader", "--array", "--format=%F").split()):
            self.command("scancel", number)
        self.wait_until_ended()


def stand_in(folder: Path) -> Cluster:
    """Commands that run the scripts themselves."""
    programs, state = folder / "bin", folder / "state"
    programs.mkdir(parents=True)
    state.mkdir()
    script = ROOT / "tests" / "helpers" / "stand_in_slurm.py"
    for name in _COMMANDS:
        words = [sys.executable, "-P", str(script), str(state), name]
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    return Cluster({"PATH": f"{programs}:{os.environ['PATH']}"})


@contextlib.contextmanager
def real_slurm() -> Iterator[Cluster]:
    """SLURM on this machine as its only node, gone when the block ends; skips where there can be none."""
    missing = [name for name in (*_DAEMONS, *_COMMANDS) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: Debian has it in slurmctld, slurmd, slurm-client and munge.")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons start jobs as root alone.")
    folder = Path(tempfile.mkdtemp(prefix="flipsearch-slurm-"))  # a socket's path is short
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(mode=0o755)
        folder.chmod(0o755)
        key = folder / "key"
        key.write_bytes(os.urandom(256))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        ports = random.SystemRandom().sample(range(20_000, 32_000), 2)
        configuration = folder / "slurm.conf"
        configuration.write_text(_CONFIGURATION.format(host=host, controller=ports[0], daemon=ports[1], folder=folder))
        munge = folder / "munge"
        others = [f"--{name}-file={munge}/{name}" for name in ("pid", "seed", "log")]
        commands = [
            ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/socket", *others],
            ["slurmctld", "-D", "-f", str(configuration)],
            ["slurmd", "-D", "-f", str(configuration), "-N", host],
        ]
        cluster = Cluster({"SLURM_CONF": str(configuration)})
        with open(folder / "log", "ab") as log:
            for command in commands:
                daemons.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, **cluster.environment},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
                if command[0] == "munged":
                    _wait_for(munge / "socket")
        _wait_until_idle(cluster, folder / "log")
        yield cluster
        cluster.clear()
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(socket_file: Path) -> None:
    deadline = time.monotonic() + 30
    while not socket_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def _wait_until_idle(cluster: Cluster, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            if cluster.command("sinfo", "--noheader", "--format=%T").strip() == "idle":
                return
        time.sleep(0.2)
    pytest.skip(f"SLURM's daemons do not come up on this machine: {log.read_text(errors='replace')[-500:]}")
