"""A worker of a fleet that runs in a Ray cluster: a thread here follows it, from waiting for room to its end."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Pipe
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from datasets.common.errors import UserError
from search.checkout import ROOT
from search.cluster.ray_shipment import PACKAGES, Shipment
from search.cluster.ray_supervisor import code_of, this_machine
from search.cluster.remote_worker import words_in
from search.machine import own_models
from search.machine.standard_streams import printable
from search.training.folds.forked import how_ended
from search.workers.crew import WorkerEnd
from search.workers.fleet_worker import Assignment, Done, Waits

_TURN_S = 0.5
_QUIET_S = 5.0
"""So long a worker may wait for room before anybody is told."""
_MOST_TRIES = 5
_PASSED_ON = (
    *("FLIPSEARCH_", "PG", "AWS_", "WANDB_", "MLFLOW_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ATEN_", "TORCH_", "CUBLAS_", "PYTHON"),
)
"""Beginnings of the variables that a worker has from the search: data, database, artifacts, trackers, and what numbers
depend on."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What workers of a cluster need to find there.

    Args:
        ray: The package.
        make_actor: Makes a supervisor's actor.
        mark: A file in a folder that all nodes share, which nobody else knows; None where they share none.
        token: Of this search alone.
        code: Hash of the checkout, as it was when the search began.
        shipment: What was sent to the nodes; None where they share the checkout and the data.
        uses_gpus: Whether a worker is given a GPU.
        needs: What a worker takes of a node, in words.
        is_local: Whether the database is a file of this machine.
    """

    ray: Any
    make_actor: Callable[[], Any]
    mark: Path | None
    token: str
    code: str
    shipment: Shipment | None
    uses_gpus: bool
    needs: str
    is_local: bool


class RayWorker:
    """A worker in a slot of the cluster; see `search.workers.crew.RunningWorker`.

    `actor` is its supervisor, which outlives it, and is made anew where Ray has given it up.
    """

    def __init__(self, assignment: Assignment, surroundings: Surroundings, actor: Any) -> None:
        self.pipe, self._ours = Pipe(duplex=False)
        self.actor = actor
        self.has_begun = False
        self._assignment = assignment
        self._around = surroundings
        self._told: SimpleQueue[int] = SimpleQueue()
        self._is_told = False
        self._log = ""
        self._end = WorkerEnd(how="before it was started")
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"follows {assignment.slot.name}")
        self._thread.start()

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, with the next turn."""
        self._is_told = True
        self._told.put(int(number))

    def end(self) -> WorkerEnd:
        """How it ended; the pipe has closed, so that is known."""
        self._thread.join()
        self.pipe.close()
        return self._end

    def wait(self, timeout_s: float) -> None:
        """Wait for its end, at most so long."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        errors = self._around.ray.exceptions
        try:
            node = self._place()
            if node is not None:
                self.has_begun = True
                self._begin(node)
                self._follow()
        except UserError as error:
            self._send(Done.of(error))
        except errors.RayActorError:
            self._end = WorkerEnd(how="together with its Ray actor or its node", is_lost=True)
        except Exception as error:
            what = printable(" ".join(f"{type(error).__name__}: {error}".split())[:300])
            self._end = WorkerEnd(how=f"in Ray ({what})")
        finally:
            self._ours.close()

    def _send(self, report: Done | Waits) -> None:
        self._ours.send(report)

    def _place(self) -> dict[str, Any] | None:
        """Wait until the actor has a place, and return what it says of its node; None if nobody wants it any more.

        Raises:
            UserError: The node lacks something.
        """
        ray, errors, since, n_tries = self._around.ray, self._around.ray.exceptions, time.monotonic(), 0
        has_said = False
        while not self._is_told:
            around, mark = self._around, self._around.mark
            asked = self.actor.look.remote(
                self._paths(),
                None if mark is None else str(mark.absolute()),
                None if around.shipment is not None else str(ROOT),
                PACKAGES,
                around.token,
            )
            while not self._is_told and not ray.wait([asked], timeout=_TURN_S)[0]:
                if not has_said and time.monotonic() - since > _QUIET_S:
                    self._send(Waits(sentence=f"Waiting for room in the Ray cluster: {self._around.needs}."))
                    has_said = True
            if self._is_told:
                break
            try:
                found: dict[str, Any] = ray.get(asked)
            except errors.ActorUnavailableError:  # Ray starts it again
                time.sleep(_TURN_S)
                continue
            except errors.RayActorError:
                n_tries += 1
                if n_tries == _MOST_TRIES:
                    raise
                self.actor = self._around.make_actor()
                time.sleep(_TURN_S)
                continue
            self._check(found)
            return found
        return None

    def _check(self, node: dict[str, Any]) -> None:
        host, shipment = printable(str(node["host"])), self._around.shipment
        if self._around.is_local and node["machine"] != this_machine():
            raise UserError(sqlite_refusal(host))
        if node["missing"] and shipment is not None:
            raise UserError(
                f"Node {host} of the Ray cluster has no {printable(str(node['missing'][0]))}: --ship sends the program "
                "and the data, but not what model.similarity, a folder of --artifacts or the storage's URL names, nor "
                "a --weights-dir with more than it sends; that has to be there at the same path."
            )
        if node["missing"]:
            raise UserError(
                f"Node {host} of the Ray cluster has no {printable(str(node['missing'][0]))}: the checkout, the folder "
                "where the command runs and the --runs-dir have to be on a file system that all nodes share, at the "
                "same paths."
            )
        if not node["has_mark"] and shipment is not None:
            raise UserError(
                f"Node {host} of the Ray cluster has another {printable(shipment.artifacts)} than this machine: name a "
                "bucket with --artifacts, or a folder that all nodes share."
            )
        if not node["has_mark"]:
            raise UserError(
                f"Node {host} of the Ray cluster has another {self._assignment.runs.absolute()} than this machine: "
                "name a --runs-dir on a file system that all nodes share."
            )
        if node["code"] != self._around.code and (shipment or node["code"] != code_of(str(ROOT), PACKAGES)):
            raise UserError(
                f"Node {host} of the Ray cluster has another version of flipsearch in {ROOT}: bring both to one "
                "commit, or share the folder."
            )

    def _paths(self) -> list[str]:
        """What has to exist on the node."""
        if self._around.shipment is not None:
            return [str(path) for path in self._around.shipment.needs]
        given = self._assignment.make_worker.keywords  # type: ignore[attr-defined]  # a partial of Worker
        places = given["places"]
        named = [ROOT, Path.cwd(), self._assignment.runs, given["split"], places.cache_dir, places.weights_dir]
        return [str(path.absolute()) for path in named if path is not None]

    def _begin(self, node: dict[str, Any]) -> None:
        slot = replace(self._assignment.slot, name=f"cpu:{self._assignment.number}", gpu="")  # sees none
        if self._around.uses_gpus:
            slot = replace(slot, name=f"cuda:{node['gpus'][0]}", gpu=",".join(node["gpus"]))
        assignment = replace(self._assignment, slot=slot)
        root, folder, shipment = ROOT, Path.cwd(), self._around.shipment
        if shipment is not None:
            root, folder = Path(node["root"]), Path(node["scratch"])
            assignment = shipment.placed(assignment, root=root, scratch=folder)
        self._log = str(assignment.log.absolute())
        payload = pickle.dumps((assignment, own_models.in_use()))
        environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        start = self.actor.start.remote
        self._around.ray.get(start(sys.executable, words_in(root), payload, environment, str(folder), self._log))

    def _follow(self) -> None:
        code = None
        while code is None:
            said, code = self._around.ray.get(self.actor.turn.remote(self._taken(), _TURN_S))
            for report in said:
                self._ours.send_bytes(report)
        if code and self._around.shipment is not None:  # what it said last is read here
            self._assignment.log.write_bytes(self._around.ray.get(self.actor.output.remote(self._log)))
        self._end = WorkerEnd(how=how_ended(code))

    def _taken(self) -> list[int]:
        """What it was told since the last turn."""
        told: list[int] = []
        try:
            while True:
                told.append(self._told.get_nowait())
        except Empty:
            return told


def sqlite_refusal(host: str) -> str:
    """Why a search in an SQLite file has no workers elsewhere."""
    return (
        f"The Ray cluster has a node that is another machine ({host}), and an SQLite file serves one machine alone: "
        "name a Postgres database, as in --storage postgresql+psycopg://user@host/name."
    )
