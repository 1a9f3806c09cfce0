"""What `--ship` sends to a Ray cluster whose nodes share no disk: the program's files, and the data of the search.

Nothing else of this machine is sent: no environment file, no runs, no database, no experiment, and no file that git
does not know.
"""

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.checkout import ROOT
from search.cluster.ray_supervisor import CHECKOUT, code_of
from search.machine.standard_streams import printable
from search.options.values import S3_PLACE
from search.request.inputs import url_of
from search.request.search_request import SearchRequest
from search.storage.url import parse_url, sqlite_path
from search.study.artifact_store import VARIABLE
from search.study.config import StudyConfig
from search.study.run_names import CACHE
from search.workers.fleet_worker import Assignment

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit

PACKAGES = ("datasets", "models", "search")
"""What a worker imports."""
_FOLDERS = (*PACKAGES, "studies")
_FILES = ("run_study.py", "pyproject.toml")
_NOT_SENT = "studies/experiment"  # what searches have exported
_ENDINGS = (".py", ".yaml", ".csv", ".html")
_INPUTS = "inputs"
_KERNEL = "models.kernel.Kernel"
_SIMILARITY = "model.similarity"
_MOST_BYTES = 200 * 2**20
_GIT_S = 30.0
_CERTIFICATES = ("sslrootcert", "sslcert", "sslkey", "passfile")
"""Of a storage's URL: paths of files."""


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What goes to the nodes.

    Args:
        folder: Holds it on this machine, until the search ends.
        code: Hash of the program in it.
        artifacts: Where weights come back, a whole path or a bucket.
        needs: What has to exist on a node all the same.
    """

    folder: Path
    code: str
    artifacts: str
    needs: tuple[Path, ...]

    @property
    def shared(self) -> Path | None:
        """The folder in which every node has to find what this machine writes; None with a bucket."""
        return None if S3_PLACE.fullmatch(self.artifacts) else Path(self.artifacts)

    def placed(self, assignment: Assignment, *, root: Path, scratch: Path) -> Assignment:
        """The same work on a node that has the program in `root`, beside the inputs, and writes to `scratch`."""
        make_worker: Any = assignment.make_worker  # a partial of Worker
        given, runs = make_worker.keywords, scratch / "runs"
        places = Places(weights_dir=given["places"].weights_dir, cache_dir=runs / CACHE)
        split = root.parent / _INPUTS / given["split"].name
        there = partial(
            make_worker.func, **{**given, "split": split, "places": places, "directory": runs / assignment.study}
        )
        return replace(assignment, make_worker=there, runs=runs, artifacts=self.artifacts)


@contextlib.contextmanager
def packed(request: SearchRequest, config: StudyConfig, split: "PreparedSplit") -> Iterator[Shipment]:
    """Copy what a search sends into a folder of its own, which is there inside this block.

    Raises:
        UserError: The search could not use what such workers make, or there is too much to send.
    """
    artifacts, needs = _checked(request)
    needs += _matrices(config)
    program = product_files(ROOT)
    inputs = [path for path in (split.path, split.embeddings_path, split.whole) if path is not None and path.exists()]
    _check_size(program, inputs)
    with tempfile.TemporaryDirectory(prefix="flipsearch-ship-") as name:
        folder = Path(name)
        for path in program:
            target = folder / CHECKOUT / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (folder / _INPUTS).mkdir()
        for path in inputs:
            shutil.copyfile(path, folder / _INPUTS / path.name)
        code = code_of(str(folder / CHECKOUT), PACKAGES)
        if code != code_of(str(ROOT), PACKAGES):
            sent = set(program)
            modules = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
            other = next((path for path in modules if path not in sent), ROOT)
            raise UserError(
                f"{other} is not among the files that git knows, which are what --ship sends: `git add` it, or move it "
                "away."
            )
        yield Shipment(folder=folder, code=code, artifacts=artifacts, needs=needs)


def _checked(request: SearchRequest) -> tuple[str, tuple[Path, ...]]:
    """Where weights come back, and what has to exist on a node."""
    url = parse_url(url_of(request.storage, request.runs_dir))
    if sqlite_path(url) is not None:
        raise UserError(
            "--ship is for nodes that share no disk with this machine, and an SQLite file is on one machine's disk: "
            "name a Postgres database, as in --storage postgresql+psycopg://user@host/name."
        )
    named = request.artifacts or os.environ.get(VARIABLE)
    if not named:
        raise UserError(
            "--ship leaves the weights of trials on the nodes unless --artifacts names where they come back to: add "
            "--artifacts s3://BUCKET/PREFIX, or a folder that every node sees."
        )
    is_bucket = "://" in named
    needs = [Path(str(url.query[key])).absolute() for key in _CERTIFICATES if key in url.query]
    needs += [] if request.weights_dir is None else [request.weights_dir.absolute()]
    if is_bucket:
        return named, tuple(needs)
    folder = Path(os.path.abspath(named))
    return str(folder), (*needs, folder)


def _matrices(config: StudyConfig) -> tuple[Path, ...]:
    """The files of similarities that the kernel is to know."""
    from models.layers.amino_acids import NAMES  # torch, which a refused request does not wait for

    model = config.defaults["model"]
    if model["_target_"] != _KERNEL:
        return ()
    reached = (*config.first_trials, *config.space.corners(config.defaults))
    named = {model["similarity"], *(params[_SIMILARITY] for params in reached if _SIMILARITY in params)}
    found = sorted(str(name) for name in named - {*NAMES})
    for name in found:
        if not os.path.isabs(name):
            raise UserError(
                f"{_SIMILARITY}={printable(name)} is a file of this machine, which --ship does not send: put it on "
                "every node, and name it by its whole path."
            )
    return tuple(map(Path, found))


def product_files(root: Path) -> list[Path]:
    """The program's files of the kinds that it has: those that git tracks, or all of a folder that is no checkout.

    Whatever somebody has added to git of other kinds, such as an environment file or a database, stays here.
    """
    known = _tracked(root)
    if known is None:
        known = [path for name in _FOLDERS for path in sorted(Path(root, name).rglob("*"))]
        known += [root / name for name in _FILES]
    left_out = root / _NOT_SENT
    return [path for path in known if _is_ours(path, root) and not path.is_relative_to(left_out)]


def _tracked(root: Path) -> list[Path] | None:
    """What git tracks of the program; None where there is no git, or no checkout of this user's."""
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--", *_FOLDERS, *_FILES],
            capture_output=True,
            check=True,
            timeout=_GIT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [root / os.fsdecode(name) for name in told.stdout.split(b"\0") if name] or None


def _is_ours(path: Path, root: Path) -> bool:
    """Whether it is a file, no link, of a kind that the program has."""
    name = path.relative_to(root)
    if any(part.startswith(".") for part in name.parts) or not (path.suffix in _ENDINGS or str(name) in _FILES):
        return False
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _check_size(program: list[Path], inputs: list[Path]) -> None:
    try:
        sizes = {path: path.stat().st_size for path in (*program, *inputs)}
    except OSError as error:
        raise UserError(f"{printable(str(error.filename))} cannot be sent ({error.strerror}).") from None
    if sum(sizes.values()) > _MOST_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"--ship would send {sum(sizes.values()) / 1e6:,.0f} MB, of which {largest} has "
            f"{sizes[largest] / 1e6:,.0f}, and at most {_MOST_BYTES / 1e6:.0f} are sent: put the checkout and the "
            "--runs-dir on a file system that all nodes share, and leave --ship out."
        )
