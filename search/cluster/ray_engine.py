"""`--engine ray`: the workers of a search in a Ray cluster, one supervisor's actor for each.

The study's database stays the coordinator: budget, leases and retries are as ever. Ray gives each worker a place, moves
it when its node goes, and lets more of them come with nodes. The database's URL travels as bytes in a call to an actor
that runs already: neither environments, which Ray lists, nor the arguments with which it would make the actor again.
"""

import contextlib
import importlib
import math
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from search.checkout import ROOT
from search.cluster import ray_supervisor
from search.cluster.ray_connection import RayCluster, answers, check_address, connected
from search.cluster.ray_shipment import PACKAGES, Shipment, packed
from search.cluster.ray_worker import RayWorker, Surroundings, sqlite_refusal
from search.machine.standard_streams import printable
from search.request.inputs import url_of
from search.request.search_request import SearchRequest
from search.storage.url import parse_url, sqlite_path
from search.study.config import StudyConfig
from search.study.run_names import CACHE
from search.workers.display import Display
from search.workers.fleet_worker import Assignment
from search.workers.slots import Slot

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit

_CORES_BEFORE = 2
"""What a worker has in studies of earlier versions."""
_BETWEEN_LOOKS_S = 5.0
_WITHOUT_HEAD_S = 20.0
"""After 60 s Ray aborts whatever is connected to it."""
_END_S = 10.0


@dataclass(frozen=True)
class RayEngine:
    """Brings the workers of a search to a Ray cluster.

    Args:
        address: HOST:PORT of a cluster that this machine is part of, `auto` for the one that runs here, `local` for one
            of this search's own; None is the one that runs here, or else one of its own.
        ship: Send the program and the data to nodes that share no disk with this machine. The request has to name a
            Postgres, and artifacts, by which weights come back.

    Raises:
        UserError: Ray is not installed, or it is no address.
    """

    address: str | None = None
    ship: bool = False

    def __post_init__(self) -> None:
        check_address(self.address)

    @contextlib.contextmanager
    def opened(
        self, request: SearchRequest, config: StudyConfig, split: "PreparedSplit", display: Display
    ) -> Iterator[Callable[[int | None], "RayCrew"]]:
        """Connect, and start workers inside this block; see `search.request.engine.Engine`."""
        per_gpu = request.trials_per_gpu
        if per_gpu is None:
            raise UserError(
                "--trials-per-gpu auto measures a GPU of this machine, which says nothing of those of a Ray cluster: "
                "give a number with --engine ray."
            )
        with contextlib.ExitStack() as stack:
            shipment = stack.enter_context(packed(request, config, split)) if self.ship else None
            sent = None if shipment is None else shipment.folder
            cluster = stack.enter_context(connected(self.address, display.announce, ship=sent))
            token = secrets.token_hex(8)
            shared = request.runs_dir / CACHE / "checks" if shipment is None else shipment.shared
            mark = None if shared is None else stack.enter_context(_marked(shared, token))

            def crew_with(threads: int | None) -> RayCrew:
                crew = RayCrew(
                    cluster=cluster,
                    request=request,
                    per_gpu=per_gpu,
                    config=config,
                    display=display,
                    mark=mark,
                    token=token,
                    shipment=shipment,
                    threads=threads,
                )
                crew.check()
                stack.callback(crew.close)
                return crew

            yield crew_with


@contextlib.contextmanager
def _marked(folder: Path, token: str) -> Iterator[Path]:
    """A file in a folder by which a node shows that it has the same one."""
    mark = folder / f"ray-{token}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be written ({error.strerror}): name another.") from None
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


@dataclass(frozen=True)
class Node:
    """A node of the cluster, with all of its cores and GPUs, whoever uses them now."""

    host: str
    cores: float
    gpus: float


@dataclass(kw_only=True)
class RayCrew:
    """The workers of one search in a cluster; see `search.workers.crew.Crew`.

    `threads` are the study's (`search.study.recorded.noted_threads`); a node with fewer cores can hold a worker, too.
    """

    cluster: RayCluster
    request: SearchRequest
    per_gpu: int
    config: StudyConfig
    display: Display
    mark: Path | None
    token: str
    shipment: Shipment | None
    threads: int | None
    is_this_process: bool = False
    _n_slots: int = field(init=False, default=0)
    _looked: float = field(init=False, default=-_BETWEEN_LOOKS_S)
    _gone_since: float | None = field(init=False, default=None)
    _around: Surroundings = field(init=False)
    _workers: dict[int, RayWorker] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        nodes, accelerator = self.nodes(), self.config.defaults["trainer"]["accelerator"]
        uses_gpus = accelerator == "gpu" or (accelerator == "auto" and any(node.gpus for node in nodes))
        # Rounded down, as Ray counts ten thousandths: three thirds have to fit.
        self._gpu = max(1, math.floor(1e4 / self.per_gpu)) / 1e4 if uses_gpus else 0.0
        asked = self.config.defaults["trainer"]["threads"]
        self._cores = asked or self._usual_cores(nodes)
        self._threads = asked or self.threads or self._cores
        cores = f"{self._cores} core" + "s" * (self._cores > 1)
        share = "a GPU" if self.per_gpu == 1 else f"1/{self.per_gpu} of a GPU"
        self._around = Surroundings(
            ray=self.cluster.ray,
            make_actor=self._make_actor,
            mark=self.mark,
            token=self.token,
            code=self.shipment.code if self.shipment else ray_supervisor.code_of(str(ROOT), PACKAGES),
            shipment=self.shipment,
            uses_gpus=uses_gpus,
            needs=f"a worker takes {cores} and {share} of a node" if uses_gpus else f"a worker takes {cores} of a node",
            is_local=sqlite_path(parse_url(url_of(self.request.storage, self.request.runs_dir))) is not None,
        )

    def check(self) -> None:
        """Say what the cluster is, and what in it cannot be.

        Raises:
            UserError: No node can hold a worker and none will come, or the database is a file of this machine and the
                cluster is not.
        """
        nodes, needs = self.nodes(), self._around.needs
        elsewhere = [node.host for node in nodes if node.host != socket.gethostname()]
        if self._around.is_local and elsewhere:
            raise UserError(sqlite_refusal(printable(elsewhere[0])))
        n_fitting, n_wanted = self._room(nodes), self.request.workers
        cores, gpus = sum(node.cores for node in nodes), sum(node.gpus for node in nodes)
        has = f"{len(nodes)} node(s) with {cores:g} cores and {gpus:g} GPUs"
        if n_fitting == 0:
            most_cores = max((node.cores for node in nodes), default=0.0)
            most_gpus = max((node.gpus for node in nodes), default=0.0)
            which = f"the largest has {most_cores:g} cores, the most GPUs on one are {most_gpus:g}"
            remedy = "ask for less with trainer.threads=N, trainer.accelerator=cpu or --trials-per-gpu"
            if self.cluster.is_ours:
                raise UserError(f"No worker fits on this machine: {needs}, and {which}; {remedy}.")
            self.display.announce(
                f"No node of the Ray cluster can hold a worker now: {needs}, and of its {has}, {which}. The search "
                f"waits for a node that can; if none is to come, stop it and {remedy}."
            )
        else:
            self.display.announce(f"Ray cluster at {self.cluster.address}: {has}, room for {n_fitting}; {needs}.")
            if n_wanted is not None and n_wanted > n_fitting:
                self.display.announce(f"{n_wanted - n_fitting} of the {n_wanted} workers wait for further nodes.")

    def slots(self) -> Sequence[Slot]:
        """As many as were asked for, or as there is room for by now; none goes again.

        Raises:
            UserError: The cluster's head has been gone for a while.
        """
        is_time = time.monotonic() - self._looked >= _BETWEEN_LOOKS_S
        if is_time:
            self._looked = time.monotonic()
            self._look_for_head()
        if self.request.workers is not None:
            self._n_slots = self.request.workers
        elif is_time and self._gone_since is None:  # Ray would wait for its head, and end this process
            with contextlib.suppress(Exception):  # the cluster does not answer now
                room = min(self._room(self.nodes()), self.request.n_trials)
                self._n_slots = max(1, self._n_slots, room)
        share = 1 / self.per_gpu if self._around.uses_gpus else 1.0
        return [
            Slot(
                name=f"ray:{number}",
                n_threads=self._threads,
                memory_share=round(share, 6),
                gpu_share=share if self._around.uses_gpus else 0.0,
            )
            for number in range(self._n_slots)
        ]

    def start(self, assignment: Assignment) -> RayWorker:
        """Let a worker come where Ray finds room; its supervisor's actor is kept from one to the next."""
        before = self._workers.get(assignment.number)
        actor = self._make_actor() if before is None else before.actor
        worker = self._workers[assignment.number] = RayWorker(assignment, self._around, actor)
        return worker

    def close(self) -> None:
        """End all actors, and with them what they have started."""
        until = time.monotonic() + _END_S
        for worker in self._workers.values():
            worker.wait(max(0.0, until - time.monotonic()))
        if self.shipment is not None:
            with contextlib.suppress(Exception):
                left = [worker.actor.leave.remote() for worker in self._workers.values()]
                self.cluster.ray.wait(left, num_returns=len(left), timeout=_END_S)
        for worker in self._workers.values():
            with contextlib.suppress(Exception):  # the cluster may be gone
                self.cluster.ray.kill(worker.actor)

    def nodes(self) -> list[Node]:
        """Those that live now."""
        return [
            Node(node["NodeManagerHostname"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in self.cluster.ray.nodes()
            if node["Alive"]
        ]

    def _look_for_head(self) -> None:
        """Refuse to go on without a head, before Ray ends this process for it without a word that people understand."""
        if answers(self.cluster.address):
            self._gone_since = None
            return
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since >= _WITHOUT_HEAD_S:
            remedy = "" if self.cluster.is_ours else "start the cluster again, and "
            raise UserError(
                f"The head of the Ray cluster at {self.cluster.address} has not answered for {_WITHOUT_HEAD_S:.0f} s: "
                f"{remedy}the same command goes on, and runs again what ran."
            )

    def _usual_cores(self, nodes: Sequence[Node]) -> int:
        """One for each thread, or fewer where a node's GPUs would not all be used, or no node could hold a worker."""
        shares = [node.cores // (node.gpus * self.per_gpu) for node in nodes if self._gpu and node.gpus]
        if self.threads is not None and not shares:
            shares = [max((node.cores for node in nodes), default=0) or self.threads]  # 0: nodes are still to come
        return int(max(1, min([self.threads or _CORES_BEFORE, *shares])))

    def _room(self, nodes: Sequence[Node]) -> int:
        """So many workers fit into the whole cluster."""
        return sum(
            int(min(node.cores // self._cores, node.gpus * self.per_gpu if self._gpu else math.inf)) for node in nodes
        )

    def _make_actor(self) -> Any:
        cloudpickle = importlib.import_module("ray.cloudpickle")
        with _BY_VALUE:
            cloudpickle.register_pickle_by_value(ray_supervisor)
            try:
                options = {"num_cpus": self._cores, "num_gpus": self._gpu, "max_restarts": -1}
                return self.cluster.ray.remote(**options)(ray_supervisor.Supervisor).remote()
            finally:
                cloudpickle.unregister_pickle_by_value(ray_supervisor)


_BY_VALUE = threading.Lock()
