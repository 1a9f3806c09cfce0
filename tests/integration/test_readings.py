"""Readings of a test set are known where the study is and in the ledger, count once, and are never said to be none."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import NullPool, create_engine, text

from search.experiments.ledger import Reading, append, read
from search.experiments.readings import Count, find_readings, noted_readings
from search.reporting.proposals import Proposals
from search.reporting.study_report import make_report
from search.storage.attributes import MANIFEST, READING
from search.storage.database import open_database
from search.study.question import Question, question, question_of
from search.study.study import DIRECTION, find_study
from tests.helpers.answers import Answer, run_here
from tests.helpers.pages import without_plotly
from tests.helpers.processes import ROOT, WAIT_S
from tests.helpers.small_study import ABOUT, add, default_database
from tests.unit.search.test_ledger import READING as OF_GB1

TABLE = {
    "target_column": "fitness",
    "split": "random",
    "max_train_mutations": None,
    "group_column": None,
    "wild_type": None,
    "split_seed": 0,
}
HASH = "a" * 64


def about(data_hash: str = HASH, **table: Any) -> dict[str, Any]:
    return {**ABOUT, "task": "rq", "data": "rq.csv", "data_hash": data_hash, "table": {**TABLE, **table}}


def asks(data_hash: str = HASH, **table: Any) -> Question:
    found = question_of(about(data_hash, **table))
    assert found is not None
    return found


def reading(study: str, data_hash: str = HASH, **changes: Any) -> Reading:
    new = Reading(**{key: value for key, value in asdict(OF_GB1).items() if key != "id"})
    values = {"per_seed": {"spearman": [0.5]}, "ensemble": {"spearman": 0.5}}
    known = {"study": study, "experiment": study, "task": "rq", "data": "rq.csv", "data_hash": data_hash}
    return replace(new, **known, values={"train_and_validation": values}, **changes)


# What a question is.


@pytest.mark.parametrize(
    "table",
    [
        {"split": "by_position"},
        {"target_column": "stability"},
        {"split_seed": 3},
        {"split": "k_vs_rest", "max_train_mutations": 4},
        {"split": "by_group", "group_column": "family"},
    ],
    ids=str,
)
def test_another_target_split_seed_limit_or_group_column_is_another_question(table: dict[str, Any]) -> None:
    assert asks().is_same(asks())
    assert not asks().is_same(asks(**table))
    assert asks(**table).words != asks().words
    for column in ("family", "cluster"):
        changed = {**table, "group_column": column}
        assert asks(**changed).is_same(asks(**table)) is (table.get("group_column") == column)


def test_one_test_set_under_two_names_is_one_question() -> None:
    """The hash is of the divided rows, and decides where one of the two does not say how they were divided."""
    for n, name in ((1, "one"), (2, "two"), (3, "three")):
        assert asks(split="k_vs_rest", max_train_mutations=n).is_same(asks(split=f"{name}_vs_rest"))
    assert asks(split=None, target_column="target").is_same(asks()), "the written split, searched as a table of its own"
    older = replace(asks(), target=None, split=None)
    assert older.is_same(asks())
    assert asks().is_same(older)
    assert not replace(older, task="another").is_same(asks())
    assert not asks("b" * 64).is_same(asks())
    assert not asks("b" * 64, split=None).is_same(asks())


def test_a_question_reads_as_people_say_it() -> None:
    assert asks(split_seed=3).words == "rq, target fitness, split random, seed 3"
    assert asks(split="k_vs_rest", max_train_mutations=4).words == "rq, target fitness, split k_vs_rest of 4"
    assert asks(split=None, group_column="family").words == "rq, target fitness, split as in the file of family"
    assert question("gb1_sampled", "FLIP's file", HASH, None).words == "gb1_sampled"


def test_a_count_is_exact_or_says_at_least_and_never_none() -> None:
    by, without = {"mine": 2, "other": 3}, ("x",)
    assert Count(by_study=by).short("mine") == "read 2x, 5x in all"
    assert Count(by_study=by, without_ledger=without).short("mine") == "read at least 2x, at least 5x in all"
    assert Count(by_study=by, missing=("y",)).short("new") == "read an unknown number of times, at least 5x in all"
    assert (Count(by_study={}).short("new"), Count(by_study={}).words) == ("read 0x", "0 time(s)")
    for unknown in (Count(by_study={}, missing=("y",)), Count(by_study={}, without_ledger=without)):
        assert "0" not in unknown.short("new") + unknown.words


# What is shown of studies and ledgers made by hand.


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Three studies on two splits of one table and on a former version of it, and the ledger of the first."""
    database = open_database(default_database(tmp_path), create=True)
    manifests = {
        "rq-random": about(),
        "rq-position": about("b" * 64, split="by_position"),
        "rq-former": about("c" * 64),
    }
    for name, manifest in manifests.items():
        study = optuna.create_study(storage=database.storage, study_name=name, direction=DIRECTION)
        study.set_user_attr(MANIFEST, manifest)
        add(study, TrialState.COMPLETE, value=0.5)
    database.storage.engine.dispose()
    append(
        tmp_path / "exported" / "rq-random.ledger.jsonl",
        [reading("rq-random", target="fitness", split="random"), reading("rq-random")],
    )
    return tmp_path


def test_status_counts_each_split_by_itself_and_names_missing_ledgers(
    questions: Path, command: Callable[..., Answer]
) -> None:
    answer = command("status", "--export-dir", "exported")
    assert answer.status == 0, answer
    lines = answer.out.splitlines()
    below = {line.split()[0]: lines[i + 1] for i, line in enumerate(lines) if line.startswith("rq-")}
    assert below["rq-random"] == "  rq, target fitness, split random (rq.csv); test set read 2x", "one is of old"
    assert below["rq-position"].endswith("split by_position (rq.csv); test set read an unknown number of times")
    assert below["rq-former"].endswith("split random (rq.csv); test set read an unknown number of times")
    assert lines[-1] == ("There is no ledger of rq-former, rq-position in exported: name its folder with --export-dir.")
    assert max(map(len, lines)) <= 120
    (questions / "exported" / "rq-position.yaml").touch()  # it was exported here and never confirmed
    assert "split by_position (rq.csv); test set read 0x" in command("status", "--export-dir", "exported").out

    elsewhere = command("status")
    assert " 0x" not in elsewhere.out
    assert "in studies/experiment: name its folder with --export-dir." in elsewhere.out
    found = {one["study"]: one for one in json.loads(command("status", "--export-dir", "exported", "--json").out)}
    assert found["rq-random"]["test_readings"] == {"rq-random": 2}
    assert found["rq-random"]["test_readings_missing"] == []
    assert (found["rq-random"]["target"], found["rq-random"]["split"]) == ("fitness", "random")
    assert found["rq-position"]["test_readings"] == {}
    assert found["rq-former"]["test_readings"] is None


def test_a_study_without_a_complete_trial_was_never_confirmed(questions: Path, command: Callable[..., Answer]) -> None:
    database = open_database(default_database(questions), create=False)
    new = optuna.create_study(storage=database.storage, study_name="rq-new", direction=DIRECTION)
    new.set_user_attr(MANIFEST, about("d" * 64, split_seed=7))
    database.storage.engine.dispose()
    answer = command("status", "--study-name", "rq-new")
    assert "split random, seed 7 (rq.csv); test set read 0x" in answer.out


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES ({}, 'reading:x', '7')",
        "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES ({}, x'ff', '7')",
        "UPDATE study_directions SET direction = 'MINIMIZE' WHERE study_id = {}",
        "DELETE FROM study_directions WHERE study_id = {}",
    ],
)
def test_a_study_that_cannot_be_read_makes_every_number_a_lower_bound(
    questions: Path, command: Callable[..., Answer], statement: str
) -> None:
    with create_engine(default_database(questions), poolclass=NullPool).begin() as connection:
        bad = "(SELECT study_id FROM studies WHERE study_name = 'rq-former')"
        connection.execute(text(statement.format(bad)))
    answer = command("status", "--export-dir", "exported", "--study-name", "rq-random")
    assert answer.status == 0, answer
    assert "test set read at least 2x" in answer.out
    assert "What the database holds of rq-former cannot be read." in answer.out


def test_a_ledger_that_somebody_adds_hides_no_reading_by_its_id(
    questions: Path, command: Callable[..., Answer]
) -> None:
    """It has the ids of readings that the own ledger and the database hold, and names other data."""
    exported = questions / "exported"
    own = exported / "rq-random.ledger.jsonl"
    before = command("status", "--study-name", "rq-random", "--export-dir", "exported").out
    assert "test set read 2x" in before
    theirs = [replace(one, data_hash="d" * 64) for one in read(own)]
    append(exported / "zz.ledger.jsonl", theirs)
    assert command("status", "--study-name", "rq-random", "--export-dir", "exported").out == before
    own.unlink()
    database = open_database(default_database(questions), create=False)
    study = find_study(database, theirs[0].study)
    for one in theirs:
        noted = {**asdict(one), "data_hash": HASH}
        study.set_user_attr(READING + one.id, {key: noted[key] for key in NOTED})
    known = find_readings(exported, database)
    assert known.count(asks()).n == len(theirs)
    assert known.count(asks("d" * 64)).n == len(theirs)


NOTED = ("when", "experiment", "trial", "task", "data", "data_hash", "target", "split")


@pytest.mark.slow
def test_compare_never_shows_two_questions_in_one_panel(questions: Path, command: Callable[..., Answer]) -> None:
    other = reading("rq-position", "b" * 64, target="fitness", split="by_position", model="cnn")
    append(questions / "exported" / "rq-position.ledger.jsonl", [other])
    answer = command("compare", "--task", "rq", "--export-dir", "exported")
    assert answer.status == 0, answer
    titles = [line.partition("  ")[0] for line in answer.out.splitlines() if line.startswith("rq,")]
    random = [f"rq, target fitness, split random, data {digit * 8}" for digit in "ac"]
    assert titles == ["rq, target fitness, split by_position"] * 2 + [random[0]] * 2 + [random[1]], answer.out
    page = without_plotly((questions / "runs" / "comparison" / "comparison.html").read_text(encoding="utf-8"))
    how_often = ("1 time(s): 1 by rq-position", "2 time(s): 2 by rq-random", "an unknown number of times")
    for title, words in zip(dict.fromkeys(titles), how_often, strict=True):
        _, found, after = page.partition(f"{title} (rq.csv).")
        assert found, title
        assert f"Its test set was read {words}" in after.partition("(rq.csv).")[0]
    drawing = (questions / "runs" / "comparison" / "comparison.svg").read_text(encoding="utf-8")
    assert drawing.count("<!-- rq, target fitness, split ") == 2, "a panel for each question with a test result"


def test_the_report_counts_its_own_question_and_says_what_it_could_not_ask(questions: Path) -> None:
    database = open_database(default_database(questions), create=False)
    study = find_study(database, "rq-random")
    where = {"runs": questions / "runs", "proposals": Proposals(prog="p"), "database": database}
    page = without_plotly(make_report(study, export=questions / "exported" / "rq-random.yaml", **where))
    assert "The test set of rq, target fitness, split random was read 2 time(s); 2 by rq-random." in page
    assert "Task rq, target fitness, split random, model ridge." in page
    page = without_plotly(make_report(study, export=questions / "elsewhere" / "rq-random.yaml", **where))
    assert "split random was read an unknown number of times." in page
    assert "There is no ledger of rq-random in" in page
    database.storage.engine.dispose()


# Real confirmations, of studies in SQLite and in Postgres.

SEARCH = (
    *("--task", "synthetic_one_vs_rest", "--model", "ridge", "--n-trials", "2", "trainer.threads=1"),
    *("validation=holdout", "--export-dir", "exported"),
)
NAME = "synthetic_one_vs_rest-ridge"
KILLED = {
    "between ledger and database": "noted.note_readings = die",
    "between two rows": "optuna.Study.set_user_attr = once_and_die",
}
PATCHED = """
import os, signal, sys, time
import optuna
import search.experiments.readings as noted
from search.cli.main import main

write, note, n = optuna.Study.set_user_attr, noted.note_readings, 0

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def once_and_die(*words):
    global n
    n += 1
    write(*words) if n == 1 else die()

def together(*words):  # both are about to write
    open(f"ready {os.getpid()}", "w").close()
    while sum(name.startswith("ready ") for name in os.listdir()) < 2:
        time.sleep(0.02)
    note(*words)

PATCH
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a searched study, and its database."""

    folder: Path
    url: str

    @property
    def ledger(self) -> Path:
        return self.folder / "exported" / f"{NAME}.ledger.jsonl"

    def confirm(self, *words: str, name: str = NAME) -> Answer:
        given = ("confirm", f"exported/{name}.yaml", "--seeds", "1", "--quiet", "--json", "--storage", self.url)
        return run_here(*given, *words, cwd=self.folder)

    def start(self, patch: str, *words: str, name: str = NAME) -> "subprocess.Popen[str]":
        code = PATCHED.replace("PATCH", patch)
        given = ("confirm", f"exported/{name}.yaml", "--seeds", "1", "--quiet", "--storage", self.url, *words)
        return subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *given],
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def status(self, export_dir: str) -> tuple[Mapping[str, int] | None, list[str]]:
        words = ("status", "--study-name", NAME, "--json", "--storage", self.url, "--export-dir", export_dir)
        found = json.loads(run_here(*words, cwd=self.folder).out)
        return found["test_readings"], found["test_readings_missing"]

    def noted(self) -> set[str]:
        database = open_database(self.url, create=False)
        with contextlib.closing(database.storage.engine.raw_connection()):
            found = {one.id for one in noted_readings(find_study(database, NAME))}
        database.storage.engine.dispose()
        return found

    def in_ledger(self) -> set[str]:
        return {one.id for one in read(self.ledger)}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp(f"readings in {request.param}")
    url = f"sqlite:///{folder / 'studies.db'}"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        url = server.url(server.create_database())
    answer = run_here(*SEARCH, "--storage", url, cwd=folder)
    assert answer.status == 0, answer
    return Place(folder=folder, url=url)


def test_a_reading_is_known_where_the_study_is_and_counts_once(place: Place) -> None:
    assert place.status("exported") == ({}, []), "exported here, and never confirmed"
    assert place.status("elsewhere")[0] is None
    answer = place.confirm()
    assert (answer.status, answer.err) == (0, ""), answer
    found = json.loads(answer.out)
    n = len(place.in_ledger())
    assert (found["n_readings"], found["n_readings_in_all"], found["readings_missing"]) == (n, n, [])
    assert place.noted() == place.in_ledger()
    assert place.status("exported") == ({NAME: n}, [])
    counts, missing = place.status("elsewhere")
    assert (counts, len(missing)) == ({NAME: n}, 1), "at least as many"

    # A ledger that came from an older copy lacks the line; the database does not.
    whole = place.ledger.read_bytes()
    place.ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert place.status("exported") == ({NAME: n}, [])
    place.ledger.write_bytes(whole)


@pytest.mark.parametrize("patch", KILLED.values(), ids=KILLED)
@pytest.mark.system
def test_killed_before_the_database_has_all_the_ledger_has_them_and_the_next_call_notes_them(
    place: Place, patch: str
) -> None:
    place.confirm()
    before = place.in_ledger()
    process = place.start(patch, "--top-k", "2")
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (-9, ""), err
    assert len(place.in_ledger()) == len(before) + 2
    assert len(place.noted()) == len(before) + (1 if "once" in patch else 0)
    assert place.status("exported") == ({NAME: len(before) + 2}, []), "each of them once"
    assert place.confirm().status == 0
    assert place.noted() == place.in_ledger()
    assert len(place.noted()) == len(before) + 3


@pytest.mark.system
def test_two_confirmations_at_once_lose_no_reading(place: Place) -> None:
    before = place.noted() | place.in_ledger()
    names = ["first", "second"]
    for name in names:
        shutil.copy(place.folder / "exported" / f"{NAME}.yaml", place.folder / "exported" / f"{name}.yaml")
    both = [place.start("noted.note_readings = together", name=name) for name in names]
    for process in both:
        out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, out + err
    new = {one.id for name in names for one in read(place.folder / "exported" / f"{name}.ledger.jsonl")}
    assert len(new) == 2
    assert place.noted() >= new
    assert place.status("exported") == ({NAME: len(before | new)}, [])


@pytest.mark.slow
def test_confirm_without_the_database_works_and_says_so_in_one_sentence(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.folder / "exported", tmp_path / "exported")
    for ledger in (tmp_path / "exported").glob("*.ledger.jsonl"):
        ledger.unlink()
    alone = replace(place, folder=tmp_path)
    words = ("confirm", f"exported/{NAME}.yaml", "--seeds", "1", "--quiet")
    missing = ("--storage", "postgresql+psycopg://u@127.0.0.1:1/x") if "postgres" in place.url else ()
    answer = run_here(*words, "--json", *missing, cwd=tmp_path)
    assert (answer.status, answer.err) == (0, ""), answer
    found = json.loads(answer.out)
    assert (found["n_readings"], found["n_readings_in_all"]) == (1, 1)
    (sentence,) = found["readings_missing"]
    assert sentence.startswith(f"This reading stands in the ledger alone, without the database of study '{NAME}': ")
    assert "\n" not in sentence
    noted = place.noted()
    assert len(read(alone.ledger)) == 1
    assert not alone.in_ledger() & noted

    # With the database at hand again, the next call notes this one, too.
    assert alone.confirm().status == 0
    assert alone.noted() == noted | alone.in_ledger()
    assert len(alone.in_ledger()) == 2


@pytest.mark.slow
def test_another_study_of_that_name_is_told_nothing(place: Place, tmp_path: Path) -> None:
    url = default_database(tmp_path)
    database = open_database(url, create=True)
    other = optuna.create_study(storage=database.storage, study_name=NAME, direction=DIRECTION)
    other.set_user_attr(MANIFEST, ABOUT)
    shutil.copytree(place.folder / "exported", tmp_path / "exported")
    answer = replace(place, folder=tmp_path, url=url).confirm()
    assert answer.status == 0, answer
    assert "is not the study of the experiment" in json.loads(answer.out)["readings_missing"][0]
    assert not [key for key in other.user_attrs if key.startswith(READING)]
    assert find_readings(None, database).noted == ()
    database.storage.engine.dispose()
