"""The dashboard shows a study, its trials and their files, and lets nobody change them."""

import json
import os
import shutil
import signal
import socket
import sqlite3

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import StorageInternalError
from optuna_dashboard._app import create_app

from search.storage import read_only
from search.storage.outages import StorageRefused
from search.storage.read_only import Guard, open_to_look
from tests.helpers.browser import in_a_browser, open_browser
from tests.helpers.dashboards import address_of, end, running_dashboard, start_dashboard


@pytest.fixture(scope="module")
def folder(tmp_path_factory, finished_study):
    """A finished study of our own."""
    folder = tmp_path_factory.mktemp("dashboard of ä study") / "copy"
    shutil.copytree(finished_study.folder, folder)
    return folder


@pytest.fixture(scope="module")
def dashboard(folder):
    with running_dashboard(folder) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def best(folder, finished_study):
    storage = f"sqlite:///{folder / 'runs' / 'studies.db'}"
    return optuna.load_study(study_name=finished_study.name, storage=storage).best_trial


def contents(folder):
    """Every row of the database, and every artifact."""
    connection = sqlite3.connect(folder / "runs" / "studies.db")
    try:
        rows = list(connection.iterdump())
    finally:
        connection.close()
    return rows, {path.name: path.read_bytes() for path in (folder / "runs" / "artifacts").iterdir()}


@in_a_browser
def test_a_browser_sees_the_study_and_cannot_delete_it(dashboard, folder, best, finished_study, tmp_path):
    before = contents(folder)
    with open_browser(tmp_path) as browser:
        browser.open(dashboard.address)
        browser.wait_for(finished_study.name)

        browser.evaluate("document.querySelector('[aria-label=\"delete study\"]').click()")
        browser.wait_for("Are you sure you want to delete")
        buttons = "[...document.querySelectorAll('[role=dialog] button')]"
        browser.evaluate(f"{buttons}.find(button => button.innerText.toLowerCase() == 'yes').click()")
        browser.wait_for("Failed to delete study")
        answer = "fetch('/api/studies/1', {method: 'DELETE'}).then(async r => [r.status, (await r.json()).reason])"
        status, reason = browser.evaluate(answer)
        assert status == 403
        assert reason.startswith("This dashboard only shows")

        browser.open(f"{dashboard.address}dashboard/studies/1")
        browser.wait_for(f"Best Trial (number={best.number})")
        browser.wait_for(str(best.value))
        browser.open(f"{dashboard.address}dashboard/studies/1/trials?numbers={best.number}")
        browser.wait_for("fold0.safetensors")
        browser.open(f"{dashboard.address}dashboard/studies/1/note")
        browser.wait_for(f"Best: trial {best.number}, validation Spearman {best.value:.4f}")
        browser.open(dashboard.address)
        browser.wait_for(finished_study.name)
    assert contents(folder) == before


def test_artifacts_are_the_trials_own_files(dashboard, folder, best, finished_study):
    (shown,) = dashboard.study()["best_trials"]
    artifacts = {artifact["filename"]: artifact["artifact_id"] for artifact in shown["artifacts"]}
    trial = folder / "runs" / finished_study.name / f"trial-{best.number:05d}"
    for name, path in (("fold0.safetensors", "fold0.safetensors"), ("fold0-metrics.csv", "logs/fold0/metrics.csv")):
        for folder_of_artifacts in ("artifacts", "art%FFifacts"):  # Bottle leaves out what is no UTF-8
            reply = dashboard.ask(f"{folder_of_artifacts}/1/{shown['trial_id']}/{artifacts[name]}")
            assert (reply.status, reply.body) == (200, (trial / path).read_bytes())
            assert reply.headers["Content-Security-Policy"] == "sandbox allow-scripts"


def test_an_artifact_that_is_not_kept_any_more_is_said_to_be_gone(dashboard, folder):
    (shown,) = dashboard.study()["best_trials"]
    name = next(a["artifact_id"] for a in shown["artifacts"] if a["filename"] == "fold0-metrics.csv")
    path = folder / "runs" / "artifacts" / name
    path.rename(path.with_name("away"))
    try:
        reply = dashboard.ask(f"artifacts/1/{shown['trial_id']}/{name}")
    finally:
        path.with_name("away").rename(path)
    assert reply.status == 410
    assert b"--keep-top" in reply.body


def all_changing_routes():
    """What optuna-dashboard can be asked that is not a question."""
    app = create_app(optuna.storages.InMemoryStorage(), artifact_store=FileSystemArtifactStore("."))
    return sorted({(route.method, route.rule) for route in app.routes if route.method not in ("GET", "HEAD")})


def test_nothing_that_changes_passes(dashboard, folder):
    before = contents(folder)
    routes = all_changing_routes()
    assert ("DELETE", "/api/studies/<study_id:int>") in routes
    assert len(routes) > 10
    for method, rule in [*routes, ("OPTIONS", "/"), ("PATCH", "/api/studies"), ("delete", "/api/studies/<id:int>")]:
        path = rule.strip("/")
        for part in ("<study_id:int>", "<trial_id:int>", "<id:int>"):
            path = path.replace(part, "1")
        path = path.partition("<artifact_id")[0] + ("0" * 8 if "<artifact_id" in path else "")
        content = {"study_name": "other", "directions": ["maximize"], "state": "Fail", "user_attrs": {"a": "b"}}
        reply = dashboard.ask(path, method, content)
        assert reply.status == 403, (method, path)
        assert reply.json()["reason"].endswith("delete anything.")
    assert contents(folder) == before


def test_the_storage_itself_refuses_to_be_changed(folder, finished_study):
    url = f"sqlite:///{folder / 'runs' / 'studies.db'}"
    storage, _ = open_to_look(url, is_writable=False)
    study = storage.get_study_id_from_name(finished_study.name)
    changes = [
        lambda: storage.delete_study(study),
        lambda: storage.set_study_user_attr(study, "a", 1),
        lambda: storage.create_new_trial(study),
    ]
    for change in changes:
        with pytest.raises((StorageRefused, StorageInternalError)) as caught:
            change()
        assert "readonly" in f"{caught.value} {caught.value.__cause__}"
    storage.engine.dispose()


def test_other_sites_names_for_this_address_are_refused(dashboard):
    port = dashboard.address.rstrip("/").rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}"):
        assert dashboard.ask("api/studies", host=host).status == 200
    for host in (f"elsewhere.example:{port}", "127.0.0.1.elsewhere.example"):
        assert dashboard.ask("api/studies", host=host).status == 403


@pytest.mark.parametrize("length", ["", "-1", "abc", "999999999999"])
def test_a_body_of_any_stated_length_is_answered(length):
    answered = []

    class Body:
        def read(self, n):
            assert 0 <= n <= 16 * 2**20
            return b""

    environment = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_LENGTH": length, "wsgi.input": Body()}
    guard = Guard(lambda environ, start: [b"passed"], is_writable=False, hosts=None)
    body = guard(environment, lambda status, headers: answered.append(status))
    assert answered == ["403 Forbidden"]
    assert "reason" in json.loads(b"".join(body))


def test_it_ends_quietly_and_warns_where_others_can_reach_it(folder):
    process = start_dashboard(folder, "--host", "0.0.0.0")
    address = address_of(process)
    status, out, err = end(process, signal.SIGTERM)  # the others end by Ctrl-C
    assert (status, out) == (0, "")
    assert address.startswith("http://0.0.0.0:")
    assert err.count("\n") == 1
    assert "whoever reaches it can read every study" in err


def test_bad_input_is_one_sentence(command, folder, tmp_path, monkeypatch):
    database = folder / "runs" / "studies.db"
    storage = ("--storage", f"sqlite:///{database}")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert "choose another --port" in command("dashboard", *storage, "--port", str(port)).refusal()
    for bad in ("65536", "-1", "http", "80.5"):
        assert "expected a port from 0 to 65535" in command("dashboard", *storage, "--port", bad).refusal()
    for host in ("not.a.host.example", "x" * 70):
        assert "is no address" in command("dashboard", *storage, "--host", host).refusal()
    assert "cannot listen" in command("dashboard", *storage, "--host", "192.0.2.1", "--port", "0").refusal()
    assert "no study database" in command("dashboard").refusal()
    assert "malformed" in command("dashboard", "--storage", "nonsense").refusal()
    secret = command("dashboard", "--storage", "postgresql+psycopg://u:planted@127.0.0.1:1/x").refusal()
    assert "planted" not in secret
    assert "no 'x'" in command("dashboard", *storage, "x").refusal()
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    empty.touch()
    assert "has no studies yet" in command("dashboard", "--storage", f"sqlite:///{empty}").refusal()
    old = tmp_path / "old.db"
    shutil.copy(database, old)
    connection = sqlite3.connect(old)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    connection.close()
    assert "made by Optuna" in command("dashboard", "--storage", f"sqlite:///{old}").refusal()
    connection = sqlite3.connect(old)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("v2.6.0.a",)
    connection.close()
    alone = shutil.copy(database, tmp_path / "alone.db")
    may = os.access
    # Root may write everywhere, and SQLite does so at the first look.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and may(path, mode))
    monkeypatch.setattr(read_only, "sqlite_path", lambda url: tmp_path / "alone.db")
    assert "cannot be written" in command("dashboard", "--storage", f"sqlite:///{alone}").refusal()


def test_it_can_be_made_writable(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with running_dashboard(copy, "--writable") as dashboard:
        assert dashboard.ask("api/studies/1", "DELETE", {}).status == 204
        assert dashboard.studies() == []
    assert list((copy / "runs" / "artifacts").iterdir()) == []


def test_a_search_and_a_dashboard_that_runs_meanwhile_do_not_disturb_each_other(
    dashboard, folder, program, finished_study
):
    n_before = len(dashboard.study()["trials"])
    answer = program(*finished_study.command, "--n-trials", str(n_before + 1), cwd=folder)
    assert answer.status == 0, answer
    shown = dashboard.study()
    assert f"{n_before + 1} of {n_before + 1} trials finished" in shown["note"]["body"]
