"""What `--ship` sends to a Ray cluster whose nodes share no disk: the program's files, and the data of the search.

Nothing else of this machine is sent: no environment file, no runs, no database, no experiment, and no file that git
does not know.
"""

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.checkout import ROOT
from search.cluster.ray_supervisor import CHECKOUT, HeldFolder, code_of
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
_BACKBONE = "model.backbone"
_WEIGHTS = "weights"
_OF_WEIGHTS = (".json", ".safetensors", ".bin")  # in a folder of Hugging Face's layout
_FOLDER = "flipsearch-ship-"
_MOST_BYTES = 200 * 2**20
_GIT_S = 30.0
_CERTIFICATES = ("sslrootcert", "sslcert", "sslkey", "passfile")
"""Of a storage's URL: paths of files."""
_OF_THE_SYSTEM = "system"
"""As `sslrootcert` it is no path: libpq takes the certificates that a machine trusts."""


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What goes to the nodes.

    Args:
        folder: Holds it on this machine, until the search ends.
        code: Hash of the program in it.
        artifacts: Where weights come back, a whole path or a bucket.
        needs: What has to exist on a node all the same.
        weights_dir: Pretrained weights: below `folder`, or a whole path that is among `needs`; None without.
    """

    folder: Path
    code: str
    artifacts: str
    needs: tuple[Path, ...]
    weights_dir: Path | None = None

    @property
    def shared(self) -> Path | None:
        """The folder in which every node has to find what this machine writes; None with a bucket."""
        return None if S3_PLACE.fullmatch(self.artifacts) else Path(self.artifacts)

    def placed(self, assignment: Assignment, *, root: Path, scratch: Path) -> Assignment:
        """The same work on a node that has the program in `root`, beside the inputs, and writes to `scratch`."""
        make_worker: Any = assignment.make_worker  # a partial of Worker
        given, runs = make_worker.keywords, scratch / "runs"
        weights_dir = None if self.weights_dir is None else root.parent / self.weights_dir
        places = Places(weights_dir=weights_dir, cache_dir=runs / CACHE)
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
    weights = _weights(request, config)
    weights_dir = Path(_INPUTS, _WEIGHTS) if weights else None
    if request.weights_dir is not None and _size((*program, *inputs, *weights)) > _MOST_BYTES:
        weights, weights_dir = [], request.weights_dir.absolute()
        needs += (weights_dir,)
    held = HeldFolder(_FOLDER, secrets.token_hex(8))
    try:
        folder = held.folder
        for path in program:
            target = folder / CHECKOUT / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (folder / _INPUTS).mkdir()
        for path in inputs:
            shutil.copyfile(path, folder / _INPUTS / path.name)
        for path in weights:
            assert request.weights_dir is not None, "they are below it"
            target = folder / _INPUTS / _WEIGHTS / path.relative_to(request.weights_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        code = code_of(str(folder / CHECKOUT), PACKAGES)
        if code != code_of(str(ROOT), PACKAGES):
            sent = set(program)
            modules = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
            other = next((path for path in modules if path not in sent), ROOT)
            raise UserError(
                f"{other} is not among the files that git knows, which are what --ship sends: `git add` it, or move it "
                "away."
            )
        yield Shipment(folder=folder, code=code, artifacts=artifacts, needs=needs, weights_dir=weights_dir)
    finally:
        held.leave()


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
    files = {key: str(url.query[key]) for key in _CERTIFICATES if key in url.query}
    if files.get("sslrootcert") == _OF_THE_SYSTEM:
        del files["sslrootcert"]
    for key, file in files.items():
        if not os.path.isabs(file):
            raise UserError(
                f"The storage's {key} is a file of this folder, which --ship does not send: put it on every node, and "
                "name it by its whole path."
            )
    needs = [Path(file) for file in files.values()]
    if is_bucket:
        return named, tuple(needs)
    folder = Path(os.path.abspath(named))
    return str(folder), (*needs, folder)


def _matrices(config: StudyConfig) -> tuple[Path, ...]:
    """The files of similarities that the kernel is to know."""
    from models.layers.amino_acids import NAMES  # torch, which a refused request does not wait for

    if config.defaults["model"]["_target_"] != _KERNEL:
        return ()
    found = sorted(_reached(config, _SIMILARITY) - {*NAMES})
    for name in found:
        if not os.path.isabs(name):
            raise UserError(
                f"{_SIMILARITY}={printable(name)} is a file of this machine, which --ship does not send: put it on "
                "every node, and name it by its whole path."
            )
    return tuple(map(Path, found))


def _weights(request: SearchRequest, config: StudyConfig) -> list[Path]:
    """Of the --weights-dir, the files of the backbones that the study may use."""
    folder = request.weights_dir
    if folder is None:
        return []
    found = []
    for name in sorted(_reached(config, _BACKBONE)):
        found += [path for path in (folder / f"{name}.pt", *sorted((folder / name).glob("*"))) if path.is_file()]
    return [path for path in found if path.parent == folder or path.suffix in _OF_WEIGHTS]


def _reached(config: StudyConfig, key: str) -> set[str]:
    """What a setting of the model may be; nothing where the model does not have it."""
    fixed = config.defaults["model"].get(key.partition(".")[2])
    reached = (*config.first_trials, *config.space.corners(config.defaults))
    return {str(name) for name in (fixed, *(params.get(key) for params in reached)) if name is not None}


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
    total = _size((*program, *inputs))
    if total > _MOST_BYTES:
        largest = max((*program, *inputs), key=lambda path: path.stat().st_size)
        raise UserError(
            f"--ship would send {total / 1e6:,.0f} MB, of which {largest} has "
            f"{largest.stat().st_size / 1e6:,.0f}, and at most {_MOST_BYTES / 1e6:.0f} are sent: put the checkout and "
            "the --runs-dir on a file system that all nodes share, and leave --ship out."
        )


def _size(paths: Iterable[Path]) -> int:
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError as error:
        raise UserError(f"{printable(str(error.filename))} cannot be sent ({error.strerror}).") from None
