"""`--ship`: nodes without the checkout and the data get them with the search, and weights come back as artifacts."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

from tests.helpers.answers import run_here
from tests.helpers.embedding_files import write_embeddings
from tests.helpers.postgres import PostgresServer
from tests.helpers.processes import ROOT, Search, finish, wait_until
from tests.helpers.ray_cluster import ENVIRONMENT, NEEDS_RAY, FakeCluster, odd_node, words_of
from tests.helpers.tables import variants, write

pytestmark = [pytest.mark.timeout(1200), NEEDS_RAY]
STUDY = "shipped"
WORDS = (
    *("--data", "assay.csv", "--split", "random", "--embeddings", "e.h5", "--model", "ridge", "--study-name", STUDY),
    *("trainer.threads=1", "validation=holdout", "logger=none"),
)


@pytest.fixture(autouse=True)
def known_environment(monkeypatch):
    """No test asks a cluster, or a token, of whoever runs it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the program that is no clone, with files in it that nobody else may see."""
    folder = tmp_path / "copy"
    for name in ("datasets", "models", "search", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_study.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".env").write_text("FLIPSEARCH_STORAGE=planted")
    (folder / "models" / "planted.npz").write_text("planted")
    (folder / "runs").mkdir()
    (folder / "runs" / "studies.db").write_text("planted")
    (folder / "studies" / "experiment" / "planted.yaml").write_text("planted")
    return folder


@pytest.fixture
def folder(tmp_path):
    """Where the search is called: a table, and an embedding of each sequence."""
    path, draws = tmp_path / "here", np.random.default_rng(0)
    path.mkdir()
    rows = variants()[::8]
    write(path / "assay.csv", "sequence,fitness", [(sequence, f"{value:.4f}") for _, sequence, value in rows])
    write_embeddings(path / "e.h5", {row[1]: draws.normal(size=4).astype(np.float32) for row in rows})
    return path


def found_in(url):
    storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    storage.engine.dispose()
    return [(trial.params, trial.value, trial.intermediate_values) for trial in trials]


def test_a_node_without_checkout_and_data_trains_what_this_machine_would(
    tmp_path, checkout, folder, postgres: PostgresServer
):
    temporary = tmp_path / "of the node"
    temporary.mkdir()
    (tmp_path / "artifacts").mkdir()
    (folder / "own").mkdir()
    stale = temporary / "flipsearch-ray-0123456789abcdef"  # of a node that was killed
    stale.mkdir()
    url = postgres.url(postgres.create_database())
    hidden = [checkout, folder]
    cluster = FakeCluster()

    def start(*words):
        ray = ("--engine", "ray", "--address", cluster.address, "--ship", "--storage", url)
        command = [sys.executable, str(checkout / "run_study.py"), *WORDS, *ray, *words]
        return Search(command, folder)

    try:
        mounts = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
        with odd_node(cluster, f"{mounts} && mkdir '{folder}/own'", TMPDIR=str(temporary)):
            process = start("--n-trials", "3", "--artifacts", str(tmp_path / "artifacts"))
            places: set[str] = set()
            commands: set[str] = set()
            sent: set[str] = set()

            def look():
                found = []
                for path in Path("/proc").glob("[0-9]*"):
                    words = " ".join(words_of(int(path.name)))
                    if "remote_worker" in words and str(temporary) in os.path.realpath(path / "cwd"):
                        places.add(os.path.realpath(path / "cwd"))
                        commands.add(words)
                        found.append(int(path.name))
                return found

            def hold():
                for pid in (found := look()):
                    os.kill(pid, signal.SIGSTOP)  # what was sent goes when the search, which is short, has ended
                return bool(found)

            wait_until(process, hold)
            for path in Path("/tmp").glob("ray-*/session_*/runtime_resources/working_dir_files/*/checkout/../**/*"):
                if path.is_file() and f"/{STUDY}" not in str(path):
                    sent.add(path.name)
            for pid in look():
                os.kill(pid, signal.SIGCONT)
            wait_until(process, lambda: look() == [] or "trial 1 complete" in process.said())
            returncode, output = finish(process)
            assert returncode == 0, output
            assert len(places) == 1
            assert not [words for words in commands if str(checkout) in words]
            assert {"run_study.py", "ridge.yaml", "session.py", "published_spearman.csv"} <= sent
            assert not {".env", "planted.npz", "studies.db", "planted.yaml"} & sent
            assert not list(temporary.iterdir()), "what workers wrote there stays, or what others left"

            process = start("--n-trials", "4", "--artifacts", "own")
            returncode, output = finish(process)
            assert returncode == 2, output
            assert re.search(rf"Node .* of the Ray cluster has another {folder}/own than this machine", output), output
    finally:
        cluster.close()
    assert list((folder / "studies" / "experiment" / STUDY).glob("*.safetensors"))  # which came back
    assert not list((tmp_path / "artifacts").glob("ray-*"))
    here = postgres.url(postgres.create_database())
    assert run_here(*WORDS, "--n-trials", "3", "--storage", here, "--runs-dir", "other", cwd=folder).status == 0
    assert found_in(url) == found_in(here)


def test_what_would_be_lost_on_the_nodes_is_refused(folder, postgres_url):
    ship = (*WORDS, "--ship", "--n-trials", "1")
    assert "--ship sends the program and the data to the nodes of --engine ray" in run_here(*ship, cwd=folder).refusal()
    ray = (*ship, "--engine", "ray", "--address", "local", "--quiet")
    assert "an SQLite file is on one machine's disk: name a Postgres" in run_here(*ray, cwd=folder).refusal()
    answer = run_here(*ray, "--storage", postgres_url, cwd=folder)
    assert "leaves the weights of trials on the nodes unless --artifacts names" in answer.refusal()
