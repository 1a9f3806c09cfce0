"""What docker-compose.yml starts, as processes: a real Postgres, init, two workers, a dashboard that only reads.

Every process is started as the compose file says: by the image's entry point, with its service's command and
environment. Hosts, paths and secrets of the containers are replaced by ours.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from search.storage.read_only import open_to_look
from tests.helpers.compose_file import ROOT, load_compose
from tests.helpers.dashboards import Dashboard, address_of, end

# Characters that URLs, shells and password files read in their own ways.
DATABASE_PASSWORD = r"planted:one\two/three@four%20'$five"
READER_PASSWORD = "planted#reader?six"
PLANTED = ("planted:one", "planted#reader", "planted%3Aone", "planted%23reader", r"planted\:one")
N_TRIALS = 4
STUDY = "synthetic_two_vs_rest-ridge"


@pytest.fixture(scope="module")
def database(postgres):
    """A database as the image makes it, for a user of its own with a password."""
    name = postgres.create_database()
    with postgres.connect("postgres") as connection:
        connection.execute("DROP ROLE IF EXISTS flipsearch")
        literal = DATABASE_PASSWORD.replace("'", "''")
        connection.execute(f"CREATE ROLE flipsearch LOGIN SUPERUSER PASSWORD E'{literal}'".replace("\\", "\\\\"))
    return f"127.0.0.1:{postgres.port}/{name}"


@pytest.fixture(scope="module")
def fleet(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "database").write_text(DATABASE_PASSWORD + "\n")
    (folder / "secrets" / "reader").write_text(READER_PASSWORD + "\n")
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho GPU-aaaa\necho GPU-bbbb\n")
    tool.chmod(0o755)
    return Fleet(folder, database)


class Fleet:
    """The services of the compose file; `folder` stands for /flipsearch."""

    def __init__(self, folder, database):
        self.folder = folder
        self.database = database
        variables = {
            "FLIPSEARCH_DATABASE_PASSWORD_FILE": str(folder / "secrets" / "database"),
            "FLIPSEARCH_READER_PASSWORD_FILE": str(folder / "secrets" / "reader"),
            "FLIPSEARCH_TASK": "synthetic_two_vs_rest",
            "FLIPSEARCH_MODEL": "ridge",
            "FLIPSEARCH_N_TRIALS": str(N_TRIALS),
        }
        self.tree = load_compose(variables)

    def ours(self, text):
        """A path or URL in a container, as we have it."""
        for name, secret in self.tree["secrets"].items():
            text = text.replace(f"/run/secrets/{name}", secret["file"])
        return text.replace("@db/flipsearch", f"@{self.database}").replace("/flipsearch/", f"{self.folder}/")

    def start(self, service, *more):
        about = self.tree["services"][service]
        command = [self.ours(word) for word in about["command"]]
        path = f"{self.folder / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        given = {name: self.ours(value) for name, value in about["environment"].items()}
        environment = {**os.environ, "PATH": path, "TMPDIR": str(self.folder), **given}
        return subprocess.Popen(
            ["sh", str(ROOT / "docker-entrypoint.sh"), *command, *more],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def url(self, user):
        return f"postgresql+psycopg://{user}@{self.database}"


def process_list():
    """What `ps` would show: the command lines of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_the_fleet_of_the_compose_file(fleet, postgres):
    init = fleet.start("init")
    out, err = init.communicate(timeout=300)
    assert (init.returncode, err) == (0, "")
    assert "flipsearch_reader may read them" in out
    said = [out]
    check_reader(fleet)

    served = fleet.start("dashboard", "--port=0")
    try:
        dashboard = Dashboard(process=served, address=address_of(served))
        assert dashboard.studies() == []
        said += run_workers(fleet)
        check_dashboard(dashboard, fleet)
    finally:
        status, out, err = end(served)
    assert status == 0
    said += [out, err]

    with psycopg.connect(f"postgresql://flipsearch@{fleet.database}", password=DATABASE_PASSWORD) as connection:
        for table in ("study_user_attributes", "study_system_attributes", "trial_user_attributes"):
            said += [str(row) for row in connection.execute(f"SELECT value_json FROM {table}")]
    written = [path for path in fleet.folder.rglob("*") if path.is_file() and "secrets" not in path.parts]
    passwords = [path for path in written if path.name.startswith("tmp.")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in passwords)
    said += [path.read_text(errors="replace") for path in written if path not in passwords]
    said.append(postgres.log())
    assert len(said) > 10
    assert [text for text in said if any(word in text for word in PLANTED)] == []


def check_reader(fleet):
    """The dashboard's role reads, with its password alone, and changes nothing, whatever it sets for itself."""
    url = f"postgresql://flipsearch_reader@{fleet.database}"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url, password="another")
    with psycopg.connect(url, password=READER_PASSWORD, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM studies").fetchone() == (0,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM studies")
        connection.execute("SET default_transaction_read_only = off")
        for change in ("DELETE FROM studies", "UPDATE trials SET state = 'FAIL'", "CREATE TABLE mine (a int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(change)


def run_workers(fleet):
    """`--scale worker=2`; returns what they printed."""
    workers = [fleet.start("worker", "trainer.threads=1") for _ in range(2)]
    seen = set()
    leaks = []
    while any(worker.poll() is None for worker in workers):
        leaks += [line for line in process_list() if any(word.encode() in line for word in PLANTED)]
        for worker in workers:
            with contextlib.suppress(OSError):
                found = re.search(rb"CUDA_VISIBLE_DEVICES=([^\0]+)", Path(f"/proc/{worker.pid}/environ").read_bytes())
                seen |= {found[1]} if found else set()
        time.sleep(0.1)
    printed = [word for worker in workers for word in worker.communicate()]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert leaks == []
    assert seen == {b"GPU-aaaa", b"GPU-bbbb"}
    return printed


def check_dashboard(dashboard, fleet):
    """It shows what the workers did, and neither it nor a connection such as its own can delete it."""
    assert dashboard.studies() == [STUDY]
    shown = dashboard.study()
    assert len([trial for trial in shown["trials"] if trial["state"] == "Complete"]) == N_TRIALS
    assert f"{N_TRIALS} of {N_TRIALS} trials finished" in shown["note"]["body"]
    (best,) = shown["best_trials"]
    artifact = next(a["artifact_id"] for a in best["artifacts"] if a["filename"] == "fold0.safetensors")
    kept = fleet.folder / "runs" / STUDY / f"trial-{best['number']:05d}" / "fold0.safetensors"
    assert dashboard.ask(f"artifacts/1/{best['trial_id']}/{artifact}").body == kept.read_bytes()
    assert (fleet.folder / "runs" / "experiment" / f"{STUDY}.yaml").exists()
    assert dashboard.ask("api/studies/1", "DELETE", {}).status == 403
    os.environ["PGPASSWORD"] = DATABASE_PASSWORD
    try:
        storage, _ = open_to_look(fleet.url("flipsearch"), is_writable=False)
        with pytest.raises(StorageInternalError) as caught:
            storage.delete_study(storage.get_study_id_from_name(STUDY))
        assert "read-only transaction" in str(caught.value.__cause__)
        trials = optuna.load_study(study_name=STUDY, storage=storage).trials
        assert sum(trial.state == TrialState.COMPLETE for trial in trials) == N_TRIALS
        assert TrialState.RUNNING not in {trial.state for trial in trials}
        storage.engine.dispose()
    finally:
        del os.environ["PGPASSWORD"]


def test_init_refuses_what_it_cannot_make(command, postgres, tmp_path):
    url = postgres.url(postgres.create_database())
    storage = ("--storage", url)
    assert command("init", *storage).status == 0
    secret = tmp_path / "secret"
    for role, expected in [
        ("searcher", "owns the tables"),
        ("Reader", "expected lower-case letters"),
        ("postgres; --", "expected lower-case letters"),
    ]:
        assert expected in command("init", *storage, "--reader", role).refusal()
    assert (
        "cannot be read" in command("init", *storage, "--reader", "r", "--reader-password-file", str(secret)).refusal()
    )
    secret.write_text("\n")
    assert "is empty" in command("init", *storage, "--reader", "r", "--reader-password-file", str(secret)).refusal()
    assert "needs the role's name" in command("init", *storage, "--reader-password-file", str(secret)).refusal()
    with postgres.connect("postgres") as connection:
        connection.execute("CREATE ROLE writer SUPERUSER")
    assert "may change the tables" in command("init", *storage, "--reader", "writer").refusal()
    database = make_url(url).database
    for right in ("INSERT ON studies", "UPDATE (value) ON trial_values", "TRUNCATE ON trial_params"):
        with postgres.connect(database) as connection:
            connection.execute("CREATE ROLE adder")
            connection.execute(f"GRANT {right} TO adder")
        try:
            assert "may change the tables" in command("init", *storage, "--reader", "adder").refusal()
        finally:
            with postgres.connect(database) as connection:
                connection.execute("DROP OWNED BY adder")
                connection.execute("DROP ROLE adder")
    assert "has no roles" in command("init", "--reader", "reader").refusal()
    with postgres.connect("postgres") as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    assert not roles & {"r", "reader", "Reader"}
