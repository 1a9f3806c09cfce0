"""Where the weights and predictions of trials are kept for other machines: a shared folder, or S3.

A trial's files are known by the ids of its artifacts, which stand in the database; `search.study.artifacts` says which
there are. Whoever exports fetches those that its own folders do not hold.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from datasets.common.files import replaced
from search.machine.foreign_files import open_regular
from search.machine.limits import limit_reached
from search.machine.standard_streams import printable
from search.options.values import S3_PLACE
from search.storage.attributes import RESULT, artifacts_of
from search.storage.optuna_internals import ArtifactStore
from search.study.artifacts import Artifacts, hash_or_missing
from search.training.predictions import VALIDATION
from search.training.result import FOLD, trial_folder

VARIABLE = "FLIPSEARCH_ARTIFACTS"
_BLOCK_BYTES = 2**20
_WEIGHTS = re.compile(re.escape(FOLD).replace(r"\{\}", r"(\d{1,4})"))


@dataclass(frozen=True, kw_only=True)
class SharedFiles:
    """The files of trials, where every machine finds them. `name` is a folder or `s3://bucket/prefix`."""

    name: str
    store: ArtifactStore
    prefix: str = ""

    def put(self, path: Path, artifact: str) -> None:
        """Keep a file under the id of its artifact.

        Raises:
            UserError: It cannot be kept.
        """
        with _explained(self.name, "be written to"), open(path, "rb") as file:
            self.store.write(self.prefix + artifact, file)

    def remove(self, artifact: str) -> None:
        """Remove a file, if it is there.

        Raises:
            UserError: It cannot be removed.
        """
        with _explained(self.name, "be written to"), contextlib.suppress(ArtifactNotFound, FileNotFoundError):
            self.store.remove(self.prefix + artifact)

    def fetch(self, trial: FrozenTrial, study_folder: Path, *, only: str | None = None) -> list[Path]:
        """Bring the files of a trial to its folder that are not there; which came. `only` names one of them.

        Weights are compared with the hash that the trial recorded before they are moved into place.

        Raises:
            UserError: The store cannot be read, a file in it is not the trial's, or it cannot be written here.
        """
        hashes: list[str] = trial.user_attrs.get(RESULT, {}).get("weight_hashes", [])
        folder, came = trial_folder(study_folder, trial.number), []
        for artifact, name in artifacts_of(trial.system_attrs):
            weights = _WEIGHTS.fullmatch(name)
            if (weights is None and name != VALIDATION) or only not in (None, name) or (folder / name).exists():
                continue
            if weights is not None and int(weights[1]) >= len(hashes):
                continue
            with contextlib.suppress(ArtifactNotFound), _written(folder), replaced(folder / name) as beside:
                self._read(artifact, beside)
                if weights is not None and hash_or_missing(beside) != hashes[int(weights[1])]:
                    raise UserError(
                        f"{name} of trial {trial.number} in {self.name} is not the file that the trial left there: its "
                        "hash is another; remove it there, or search without --artifacts."
                    )
                came.append(folder / name)
        return came

    def _read(self, artifact: str, path: Path) -> None:
        with _explained(self.name, "be read"):
            source = self.store.open_reader(self.prefix + artifact)
        with source, open(path, "wb") as target:
            while True:
                with _explained(self.name, "be read"):
                    block = source.read(_BLOCK_BYTES)
                if not block:
                    return
                target.write(block)


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Make a folder of ours; what goes wrong in writing there, as a sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise limit_reached(error) or UserError(
            f"{folder} cannot be written ({error.strerror}): see to it, then repeat the command."
        ) from None


@contextlib.contextmanager
def _explained(name: str, what: str) -> Iterator[None]:
    """What the library of a store raises, as a sentence."""
    try:
        yield
    except (ArtifactNotFound, UserError):
        raise
    except Exception as error:
        is_known = isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _LIBRARIES
        if not is_known:
            raise
        why = printable(" ".join(str(getattr(error, "strerror", None) or error).split()))[:200]
        raise UserError(
            f"The artifacts in {name} cannot {what} ({why}): see whether they are there and may be used, or leave "
            f"--artifacts and ${VARIABLE} out."
        ) from None


_LIBRARIES = ("botocore", "boto3", "s3transfer", "urllib3")


def shared_files(named: str | None, environment: Mapping[str, str] = os.environ) -> SharedFiles | None:
    """Those that an option or the environment names; None where neither does.

    Credentials and the address of another S3 than Amazon's are found as boto3 finds them: in the environment, in its
    own files, or of the machine's role.

    Raises:
        UserError: The name is not valid, boto3 is missing, or the bucket cannot be reached.
    """
    name = named or environment.get(VARIABLE)
    if not name:
        return None
    if "://" not in name:
        folder = Path(name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder of artifacts {printable(name)} cannot be made ({error.strerror}): name another with "
                "--artifacts."
            ) from None
        return SharedFiles(name=str(folder), store=_SharedFolder(folder))
    found = S3_PLACE.fullmatch(name)
    if found is None:
        raise UserError(
            f"--artifacts {printable(name)!r} is not valid: expected a folder, or s3://BUCKET or s3://BUCKET/PREFIX."
        )
    prefix = (found[2] or "").strip("/")
    files = SharedFiles(name=printable(name), store=_s3(found[1]), prefix=prefix and f"{prefix}/")
    with _explained(files.name, "be reached"):
        files.store.client.head_bucket(Bucket=found[1])  # type: ignore[attr-defined]
    return files


def study_artifacts(folder: Path, keep_top: int, announce: Callable[[str], None], named: str | None) -> Artifacts:
    """The artifacts of the study whose folder that is, in the store that an option or the environment names.

    Raises:
        UserError: See `shared_files`.
    """
    return Artifacts(directory=folder, keep_top=keep_top, announce=announce, shared=shared_files(named))


class _SharedFolder(FileSystemArtifactStore):
    """A folder that others write, too."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """A file; to wait for the writer of a pipe would never end, not even by SIGTERM."""
        try:
            return open_regular(self._get_filepath(artifact_id))
        except FileNotFoundError as error:
            raise ArtifactNotFound("not found") from error


def _s3(bucket: str) -> Any:
    try:
        import boto3  # an extra, which takes a third of a second
        from botocore.config import Config
    except ImportError:
        raise UserError(
            "Artifacts in S3 need boto3, which is not installed: pip install boto3, or name a shared folder with "
            "--artifacts."
        ) from None
    from optuna.artifacts import Boto3ArtifactStore

    settings = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"})
    with _explained(f"s3://{bucket}", "be reached"):
        client = boto3.session.Session().client("s3", config=settings)
    return Boto3ArtifactStore(bucket, client=client)
