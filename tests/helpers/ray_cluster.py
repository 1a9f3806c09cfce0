"""A Ray cluster of made-up nodes on this machine, in processes of its own; and what runs in it.

`python -P ray_cluster.py` is the cluster: it reads `add CORES GPUS` and `remove NUMBER`, a line each, answers each with
a line, and ends with its input.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NEEDS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed: pip install 'ray>=2.52'"
)
# Where tests run side by side Ray would find the machine's memory full, and end workers for it.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
_BYTES = 80 * 2**20


def main() -> None:
    """The cluster's own process."""
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray notes a cluster's address there, and makes it for a cluster in it alone
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of its sockets have to be short
    head = {"temp_dir": folder, "include_dashboard": False, "num_cpus": 0, "num_gpus": 0}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": _BYTES})
    nodes = []
    print(cluster.address, flush=True)
    try:
        for line in sys.stdin:
            what, *numbers = line.split()
            if what == "add":
                cores, gpus = map(int, numbers)
                nodes.append(cluster.add_node(num_cpus=cores, num_gpus=gpus, object_store_memory=_BYTES))
            else:
                cluster.remove_node(nodes[int(numbers[0])], allow_graceful=False)
            print("done", flush=True)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


class FakeCluster:
    """The cluster, from outside; its head has no core for workers. `environment` goes before `ENVIRONMENT`."""

    def __init__(self, **environment: str) -> None:
        self._n_nodes = 0
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            env={**os.environ, **ENVIRONMENT, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.address = self._answer()

    def add(self, cores: int, gpus: int = 0) -> int:
        """Add a node; its number."""
        self._tell(f"add {cores} {gpus}")
        self._n_nodes += 1
        return self._n_nodes - 1

    def remove(self, number: int) -> None:
        """Let a node vanish, with all that runs on it."""
        self._tell(f"remove {number}")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.stdout.close()
        for pid in in_session(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextlib.contextmanager
def odd_node(cluster: FakeCluster, preparation: str, cores: int = 1, **environment: str) -> Iterator[None]:
    """A node in a namespace of its own, where `preparation` makes other what a node sees; skipped where none may be."""
    command = ["unshare", "--uts", "--mount", "sh", "-c", f'{preparation} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may give itself another host name and other mounts")
    ray = str(Path(sys.executable).with_name("ray"))
    node = subprocess.Popen(
        [*command, ray, "start", "--address", cluster.address, "--num-cpus", str(cores), "--num-gpus", "0", "--block"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        for pid in in_session(node.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()


def in_session(leader: int) -> list[int]:
    """The living processes of a session, which Ray's and their children are too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


def ray_workers(leader: int) -> list[int]:
    """The search's workers among the processes of a session: the parent of each is its supervisor's actor."""
    return [pid for pid in in_session(leader) if "remote_worker" in " ".join(words_of(pid))]


def words_of(pid: int) -> list[str]:
    """Its command line; none once it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


if __name__ == "__main__":
    main()
