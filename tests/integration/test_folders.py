"""Folders that the environment or a file beside the work names, and the commands that are proposed with them."""

import html
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from search.options.arguments import parse
from search.options.commands import COMMANDS, options_of
from search.options.folders import FILE
from search.reporting.proposals import Proposals
from tests.helpers.answers import Answer, run_here
from tests.helpers.postgres import PASSWORD
from tests.helpers.study_fixtures import FinishedStudy, Program

WHAT = ["--task", "synthetic_two_vs_rest", "--model", "ridge"]
WORDS = {
    "search": WHAT,
    "submit": ["submit", "--slurm", *WHAT],
    "train": ["train", *WHAT],
    "verify": ["verify", "x.yaml"],
    "confirm": ["confirm", "x.yaml"],
    "combine": ["combine", "s", "--export", "x"],
    "predict": ["predict", "x.yaml", "--input", "-"],
    "suggest": ["suggest", "x.yaml", "--mutagenesis", "singles", "--batch", "8", "--output", "p.csv"],
    "requeue": ["requeue", "1", "--study-name", "x"],
    "report": ["report", "--study-name", "x"],
    "compare": ["compare", "--task", "all"],
    **{name: [name, "--study-name", "x"] for name in ("drain", "pause", "resume")},
    **{name: [name] for name in ("status", "doctor", "dashboard", "init", "serve")},
}
BAD = {
    "a number": (b"runs_dir = 3", "runs_dir = 3: expected the path of a folder in quotation marks"),
    "nothing": (b'runs_dir = ""', "runs_dir = ''"),
    "a table": (b'[export_dir]\nruns_dir = "x"', "export_dir = {'runs_dir': 'x'}"),
    "a home": (b'runs_dir = "~/runs"', "without ~"),
    "no path": (b'runs_dir = "a\\u0000b"', r"'a\x00b'"),
    "a misspelt key": (b'run_dir = "x"', "Did you mean 'runs_dir'?"),
    "a database": (b'storage = "sqlite:///x.db"', "the database by --storage or $FLIPSEARCH_STORAGE"),
    "no TOML": (b"runs_dir = ", "is not valid TOML (Invalid value (at end of document))"),
    "a deep list": (b"runs_dir = " + b"[" * 30_000, "is not valid TOML"),
    "another encoding": ('runs_dir = "ä"'.encode("latin-1"), "is not UTF-8 text"),
    "a number of many digits": (b"runs_dir = " + b"9" * 5000, "is not valid TOML (Exceeds the limit"),
    "one of many more": (b"runs_dir = 0x" + b"f" * 5000, "runs_dir = a number of thousands of digits: expected"),
    "a key of many parts": (b"runs_dir" + b".a" * 5000 + b" = 1", "runs_dir = {'a': {'a': {'a': {...}}}}: expected"),
    "a value that fills the screen": (b'runs_dir = ["' + b"x" * 60_000 + b'"]', "xxx...xxx"),
    "a name that is too long": (
        b'runs_dir = "' + b"x" * 5000 + b'"',
        "... (flipsearch.toml) cannot be used (File name",
    ),
    "a large file": (b"#" * 70_000, "more than 65,536 bytes"),
}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and nothing of this machine's environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLIPSEARCH_STORAGE", "FLIPSEARCH_RUNS", "FLIPSEARCH_EXPORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_finds_its_folders_in_the_same_places(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has = {"runs_dir": "--runs-dir" in options_of(name), "export_dir": "--export-dir" in options_of(name)}
    if name == "data":
        assert not any(has.values()), "data writes to no folder of a search"
        return

    def found(*more: str) -> list[str]:
        arguments = parse([*WORDS[name], *more])
        return [f"{getattr(arguments, key)}, {arguments.folders_from[key]}" for key in has if has[key]]

    def expected(runs: str, export: str) -> list[str]:
        return [text for text, key in ((runs, "runs_dir"), (export, "export_dir")) if has[key]]

    assert found() == expected("runs, default", "studies/experiment, default")
    Path(FILE).write_text("runs_dir = 'file/runs'\nexport_dir = '/file/export'\n")
    assert found() == expected(f"file/runs, {FILE}", f"/file/export, {FILE}")
    monkeypatch.setenv("FLIPSEARCH_RUNS", "variable")
    assert found() == expected("variable, $FLIPSEARCH_RUNS", f"/file/export, {FILE}")
    monkeypatch.setenv("FLIPSEARCH_EXPORT", "exports")
    Path(FILE).write_text("broken")  # there is nothing that it could say
    assert found() == expected("variable, $FLIPSEARCH_RUNS", "exports, $FLIPSEARCH_EXPORT")
    if has["runs_dir"]:
        assert found("--runs-dir", "own") == expected("own, --runs-dir", "exports, $FLIPSEARCH_EXPORT")
    monkeypatch.setenv("FLIPSEARCH_RUNS", "")  # as an .env file leaves what is not filled in
    Path(FILE).unlink()
    assert found()[0] == "runs, default"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        parse([*WORDS[name], "--help"])
    said = capsys.readouterr().out
    assert ["$FLIPSEARCH_RUNS" in said, "$FLIPSEARCH_EXPORT" in said] == list(has.values())


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_sentence(data: bytes, said: str, command: Callable[..., Answer]) -> None:
    Path(FILE).write_bytes(data)
    assert said in command("status").refusal()
    assert [path.name for path in Path().iterdir()] == [FILE]


@pytest.mark.parametrize("kind", ["FIFO", "folder", "link", "everybody's", "another user's", "unreadable"])
def test_a_file_that_somebody_else_may_have_written_is_not_believed(
    kind: str, command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(FILE)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere.toml")
    else:
        path.write_text("runs_dir = 'x'\n")
        path.chmod({"everybody's": 0o666, "unreadable": 0o000}.get(kind, 0o644))
        if kind == "another user's":
            if os.geteuid() != 0:
                pytest.skip("only root can give a file away")
            os.chown(path, 12345, 12345)
        if kind == "unreadable" and os.geteuid() == 0:
            pytest.skip("root reads every file")
    assert "set $FLIPSEARCH_RUNS and $FLIPSEARCH_EXPORT" in command("status").refusal()
    monkeypatch.setenv("FLIPSEARCH_RUNS", "named")  # the way out
    monkeypatch.setenv("FLIPSEARCH_EXPORT", "named")
    assert "named/studies.db" in command("status").refusal()


def test_a_usage_error_comes_before_the_file(command: Callable[..., Answer]) -> None:
    Path(FILE).write_text("broken")
    assert "--runs-dri is not an option" in command("status", "--runs-dri", "x").refusal()


def test_the_doctor_and_a_dry_run_say_what_named_a_folder(command: Callable[..., Answer]) -> None:
    Path(FILE).write_text("export_dir = 'out'\n")
    said = command("doctor", "--runs-dir", "mine").out
    assert "disk: mine (--runs-dir) has " in said
    assert f"disk: out ({FILE}) has " in said
    said = command(*WHAT, "--dry-run").out
    assert said.startswith(f"# folders: runs (default), out ({FILE})\n")


@pytest.mark.slow
def test_a_whole_session_in_the_folders_of_the_file(tmp_path: Path) -> None:
    Path(FILE).write_text("runs_dir = 'my runs'\nexport_dir = 'my exports'\n")
    words = [*WHAT, "trainer.threads=1", "validation=holdout"]
    done = run_here(*words, "--n-trials", "1", cwd=tmp_path)
    assert done.status == 0, done
    export = Path("my exports") / "synthetic_two_vs_rest-ridge.yaml"
    (proposed,) = re.findall(r"Next: (.*)", done.out)
    assert shlex.split(proposed)[2:] == ["verify", str(export), "--runs-dir", "my runs"]
    assert run_here("verify", str(export), cwd=tmp_path).status == 0
    Path("candidates.txt").write_text("ACDEFGHIKL\n")
    assert "1/1" in run_here("status", cwd=tmp_path).out
    assert run_here("report", "--study-name", export.stem, cwd=tmp_path).out.startswith("Report: my runs/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidates.txt", FILE, "my exports", "my runs"]


@pytest.mark.system
def test_what_a_report_says_repeats_it_from_an_empty_environment(
    finished_study: FinishedStudy, tmp_path: Path, program: Program
) -> None:
    runs = tmp_path / "the runs"
    runs.symlink_to(finished_study.folder / "runs")
    where = {"FLIPSEARCH_RUNS": str(runs), "FLIPSEARCH_EXPORT": str(finished_study.export.parent)}
    page = tmp_path / "report.html"
    asked = program("report", "--study-name", finished_study.name, "--output", str(page), cwd=tmp_path, env=where)
    assert asked.status == 0, asked
    lines = commands_in(page)
    assert [shlex.split(line)[2] for line in lines] == ["--task", "verify", "confirm", "report"]
    for line in (lines[0], lines[1]):
        answer = program(*shlex.split(line)[2:], cwd=tmp_path)
        assert answer.status == 0, answer
        assert "nothing to do" in answer.err or answer.out.startswith("verified: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "the runs"], "nothing was made anew"


def commands_in(page: Path) -> list[str]:
    _, _, rest = page.read_text().partition("<h2>Repeat it</h2>")
    text = html.unescape(re.sub("<[^>]+>", "", rest.partition("</pre>")[0]))
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_a_proposed_command_names_what_differs_and_what_it_takes() -> None:
    assert Proposals.of(parse(WHAT)).command("verify", "a b.yaml").endswith(" verify 'a b.yaml'")
    words = ["--runs-dir", "r", "--export-dir", "studies/experiment", "--weights-dir", "w", "--data-dir", "d d"]
    proposals = Proposals.of(parse([*WHAT, *words]))
    assert proposals.command("verify", "x").endswith(" verify x --runs-dir r --data-dir 'd d' --weights-dir w")
    assert proposals.command("report", "--study-name", "x").endswith(" report --study-name x --runs-dir r")
    assert not proposals.has_password


def test_a_proposed_command_with_a_folder_that_begins_with_a_hyphen_can_be_run() -> None:
    given = parse(["report", "--study-name", "x", "--runs-dir=-r", "--export-dir=-e"])
    proposals = Proposals.of(given)
    command = shlex.split(proposals.command("predict", Path("-e/x.yaml"), "--input", "-"))
    again = parse(command[command.index("predict") :])
    assert (again.file, again.input) == (Path("-e/x.yaml"), Path("-"))
    command = shlex.split(proposals.command("report", "--study-name", "x"))
    again = parse(command[command.index("report") :])
    assert (again.runs_dir, again.export_dir) == (given.runs_dir, given.export_dir)


@pytest.mark.parametrize(
    ("url", "shown", "has_password"),
    [
        ("sqlite:///runs/studies.db", None, False),
        ("sqlite:///my.db", "sqlite:///my.db", False),
        ("postgresql://user@host/db", "postgresql+psycopg://user@host/db", False),
        ("postgresql://user:s3cret@host:5/db", "postgresql+psycopg://user@host:5/db", True),
        (
            "postgresql://user@host/db?password=s3cret&sslmode=require",
            "postgresql+psycopg://user@host/db?sslmode=require",
            True,
        ),
        ("postgresql://user:s3cr%2Fet@/db?host=/a&passwrd=s3cret", "postgresql+psycopg://user@/db?host=%2Fa", True),
    ],
)
def test_a_proposed_command_names_the_database_without_its_password(
    url: str, shown: str | None, has_password: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "" if shown is None else f" --storage {shlex.quote(shown)}"
    monkeypatch.setenv("FLIPSEARCH_STORAGE", url)
    by_environment = Proposals.of(parse(WHAT))
    monkeypatch.delenv("FLIPSEARCH_STORAGE")
    by_option = Proposals.of(parse([*WHAT, "--storage", url]))
    for proposals in (by_environment, by_option):
        line = proposals.command("search", *WHAT)
        assert line.endswith(f"--model ridge{expected}")
        assert "s3cr" not in line
        assert proposals.has_password == has_password
        assert "--storage" not in proposals.command("verify", "x"), "which takes none"


@pytest.mark.system
def test_a_report_says_where_the_password_belongs(postgres_url: str, tmp_path: Path) -> None:
    words = [*WHAT, "trainer.threads=1", "validation=holdout", "--n-trials", "1", "--storage", postgres_url]
    assert run_here(*words, cwd=tmp_path).status == 0
    assert PASSWORD in postgres_url
    page = tmp_path / "page.html"
    name = "synthetic_two_vs_rest-ridge"
    told = run_here("report", "--study-name", name, "--storage", postgres_url, "--output", str(page), cwd=tmp_path)
    assert told.status == 0, told
    first, *_ = commands_in(page)
    assert " --storage postgresql+psycopg://" in first
    assert "set $PGPASSWORD" in page.read_text()
    assert PASSWORD not in page.read_text()
