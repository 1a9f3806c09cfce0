"""Candidates in, a ranked table out; the same in Python."""

import csv
import gzip
import io
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

import search
from datasets.candidates.distances import TrainingSequences
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from datasets.tasks.synthetic import WILD_TYPE
from search.config.run_config import RunConfig
from search.experiments.experiment import checksum
from search.experiments.files import FOLD, weights_folder
from search.prediction.display import Counter
from search.study.artifacts import hash_or_missing
from search.study.config import study_config
from tests.helpers.answers import Answer
from tests.helpers.experiments import trained_experiment
from tests.helpers.own_predictions import check_measured, own_test_predictions

Command = Callable[..., Answer]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trained:
    path: Path
    config: RunConfig
    split: PreparedSplit


def cnn(task: str, folder: Path, **model: Any) -> Trained:
    split = prepare(find_task(task), data_dir=None, cache_dir=folder / "splits", announce=lambda sentence: None)
    words = [
        f"task={task}",
        "model=cnn",
        "validation=holdout",
        "trainer.max_epochs=2",
        "trainer.threads=1",
        "logger=none",
    ]
    config = study_config(words).run({})
    config = replace(config, model={**config.model, **model})
    path = folder / "exported" / f"{task}.yaml"
    path.parent.mkdir()
    trained_experiment(path, config, split, Places(weights_dir=None, cache_dir=folder / "cache"))
    return Trained(path, config, split)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return cnn("synthetic_two_vs_rest", tmp_path_factory.mktemp("two"), lr_embedding=1e-3, lr_decoder=1e-3)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_measured_variants_get_the_models_own_predictions(
    tmp_path_factory: pytest.TempPathFactory, command: Command, tmp_path: Path
) -> None:
    if not os.environ.get("FLIPSEARCH_DATA"):
        pytest.skip("needs FLIP's files: set FLIPSEARCH_DATA to the folder that holds them")
    gb1 = cnn("gb1_two_vs_rest", tmp_path_factory.mktemp("gb1"))
    own = own_test_predictions(gb1.config, gb1.split, weights_folder(gb1.path) / FOLD.format(0), tmp_path)
    sites = "39,40,54"
    answer = command("predict", str(gb1.path), "--mutagenesis", f"sites:{sites}", "--output", "all.csv", "--quiet")
    assert (answer.status, answer.out, answer.err) == (0, "", "")
    rows = rows_of(Path("all.csv").read_text())
    assert len(rows) == 20 ** len(sites.split(","))
    check_measured(rows, gb1.split, find_task("gb1_two_vs_rest").wild_type, own)


def test_the_table_says_rank_distance_and_what_is_outside(trained: Trained, command: Command) -> None:
    candidates = [
        WILD_TYPE,
        "W" + WILD_TYPE[1:],
        WILD_TYPE[:-1],
        WILD_TYPE[:10] + "X" + WILD_TYPE[11:],
        WILD_TYPE.lower(),
    ]
    Path("c.txt").write_text("\n".join(candidates))
    answer = command("predict", str(trained.path), "--input", "c.txt", "--quiet")
    assert answer.err == ""
    rows = rows_of(answer.out)
    assert list(rows[0]) == ["rank", "sequence", "prediction", "std", "distance", "outside"]
    assert [row["sequence"] for row in rows] == [text.upper() for text in candidates]
    assert [row["outside"] for row in rows] == ["", "positions", "length", "alphabet", ""]
    training = {bytes(row[:length]) for row, length in zip(trained.split.residues, trained.split.lengths, strict=True)}
    assert WILD_TYPE.encode() in training
    assert [row["distance"] for row in rows] == ["0", "1", "1", "1", "0"]
    assert {row["std"] for row in rows} == {""}
    predictions = np.array([np.float32(row["prediction"]) for row in rows])
    assert [int(row["rank"]) for row in rows] == rankdata(-predictions, method="ordinal").tolist()
    in_python = search.load_experiment(trained.path).predict(candidates)
    assert in_python.dtype == np.float32
    assert in_python.tolist() == predictions.tolist()
    without = rows_of(command("predict", str(trained.path), "--input", "c.txt", "--quiet", "--no-distance").out)
    assert without == [{**row, "distance": ""} for row in rows]


def test_every_format_in_gives_the_same_table(trained: Trained, command: Command, tmp_path: Path) -> None:
    mutations = ["WT", f"{WILD_TYPE[9]}10W", f"{WILD_TYPE[9]}10C:{WILD_TYPE[12]}13D", f"{WILD_TYPE[20]}21A"]
    sequences = [WILD_TYPE]
    for words in mutations[1:]:
        changed = list(WILD_TYPE)
        for word in words.split(":"):
            changed[int(word[1:-1]) - 1] = word[-1]
        sequences.append("".join(changed))
    plain = "\n".join(sequences) + "\n"
    table = "name,sequence\n" + "".join(f"{i},{text}\n" for i, text in enumerate(sequences))
    quoted = (
        'note,Sequence\r\n"a, ""b""\nc",' + f'"{sequences[0]}"\r\n' + "".join(f",{text}\r\n" for text in sequences[1:])
    )
    fasta = "".join(f">{i} a\n{text[:20]}\n{text[20:]}\n\n" for i, text in enumerate(sequences))
    files: dict[str, bytes] = {
        "plain.txt": plain.encode(),
        "plain": f"\n{plain}\n".encode(),
        "old mac.txt": plain.replace("\n", "\r").encode(),
        "table.csv": table.encode(),
        "table": table.encode(),
        "semicolons.csv": table.replace(",", ";").encode(),
        "table.tsv": table.replace(",", "\t").encode("utf-16"),
        "quoted.csv": b"\xef\xbb\xbf" + quoted.encode(),
        "wrapped.fasta": fasta.encode(),
        "no extension": fasta.encode(),
        "packed.fa.gz": gzip.compress(fasta.encode()),
        "stops.txt": plain.replace("\n", "*\n").lower().encode(),
    }
    answers = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        answers[name] = command("predict", str(trained.path), "--input", name, "--quiet")
    for name, answer in answers.items():
        assert answer.status == 0, answer
        assert answer.out == answers["plain.txt"].out, name

    # The same variants by name.
    (tmp_path / "m.csv").write_text("mutant,x\n" + "".join(f"{text.lower()},1\n" for text in mutations))
    (tmp_path / "m.txt").write_text("\n".join(text.replace(":", " ; ") for text in mutations[1:]))
    named = rows_of(command("predict", str(trained.path), "--input", "m.csv", "--quiet").out)
    assert [row.pop("mutations") for row in named] == mutations
    expected = rows_of(answers["plain.txt"].out)
    assert [row.pop("sequence") for row in expected] == sequences
    assert named == expected
    few = rows_of(command("predict", str(trained.path), "--input", "m.txt", "--quiet").out)
    assert [row["mutations"] for row in few] == mutations[1:]


def test_every_format_out_holds_the_same(trained: Trained, command: Command, tmp_path: Path) -> None:
    words = ("predict", str(trained.path), "--mutagenesis", "sites:10,20", "--quiet")
    expected = rows_of(command(*words).out)
    assert len(expected) == 400
    outputs = ["out.csv", "out.tsv", "out.fasta", "out.parquet"]
    for name in outputs:
        assert command(*words, "--output", name).status == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "runs") == sorted(outputs)
    assert rows_of(Path("out.csv").read_text()) == expected
    assert list(csv.DictReader(io.StringIO(Path("out.tsv").read_text()), delimiter="\t")) == expected
    records = Path("out.fasta").read_text().split(">")[1:]
    headers = [dict(word.split("=") for word in record.split("\n")[0].split()) for record in records]
    assert [{"mutations": "WT", **header} for header in headers] == expected
    assert records[0].split("\n")[1] == WILD_TYPE[:9] + "A" + WILD_TYPE[10:19] + "A" + WILD_TYPE[20:]
    table = pq.read_table("out.parquet")
    assert table.column_names == list(expected[0])
    for name, kind in (("rank", int), ("prediction", np.float32), ("distance", int), ("mutations", str)):
        assert table[name].to_pylist() == [kind(row[name]) for row in expected]
    assert table["std"].null_count == 400


def test_names_stay_with_their_candidates(trained: Trained, command: Command) -> None:
    names = ["wild", 'a,b "c"', "é=1", ""]
    sequences = [WILD_TYPE, *("C" * n + WILD_TYPE[n:] for n in (1, 2, 3))]
    pairs = list(zip(names, sequences, strict=True))
    with Path("c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Id", "other", "sequence"], *([name, 1, text] for name, text in pairs)])
    Path("c.fasta").write_text("".join(f">{name} of plate 3\n{text[:20]}\n{text[20:]}\n" for name, text in pairs))
    words = ("predict", str(trained.path), "--quiet", "--names", "--input")
    of_table, of_fasta = (rows_of(command(*words, file).out) for file in ("c.csv", "c.fasta"))
    assert list(of_table[0]) == ["rank", "sequence", "prediction", "std", "distance", "outside", "name"]
    assert [row["name"] for row in of_table] == names
    assert [row["name"] for row in of_fasta] == ["wild", "a,b", "é=1", "of"]
    assert [{**row, "name": ""} for row in of_fasta] == [{**row, "name": ""} for row in of_table]
    nameless = [{name: cell for name, cell in row.items() if name != "name"} for row in of_table]
    assert rows_of(command("predict", str(trained.path), "--quiet", "--input", "c.csv").out) == nameless

    best = rows_of(command(*words, "c.csv", "--top", "2").out)
    assert best == sorted(of_table, key=lambda row: int(row["rank"]))[:2]
    for name in ("out.tsv", "out.fasta", "out.parquet"):
        assert command(*words, "c.csv", "--output", name).status == 0
    assert list(csv.DictReader(io.StringIO(Path("out.tsv").read_text()), delimiter="\t")) == of_table
    headers = Path("out.fasta").read_text().split(">")[1:]
    assert [header.partition("rank=")[0].strip() for header in headers] == names
    again = rows_of(command(*words, "out.fasta").out)
    assert [row["name"] for row in again] == ["wild", "a,b", "é=1", "rank=" + of_table[3]["rank"]]
    assert pq.read_table("out.parquet")["name"].to_pylist() == names
    assert rows_of(command(*words, "out.parquet").out) == of_table  # what was written is read, too


def test_top_is_the_head_of_all_sorted(trained: Trained, command: Command) -> None:
    words = ("predict", str(trained.path), "--mutagenesis", "sites:12,11,20", "--quiet")  # 8,000 in several blocks
    every = rows_of(command(*words).out)
    best = sorted(every, key=lambda row: int(row["rank"]))
    assert [int(row["rank"]) for row in best] == list(range(1, 8001))
    assert rows_of(command(*words, "--top", "7").out) == best[:7]
    singles = ("predict", str(trained.path), "--mutagenesis", "singles", "--quiet")
    every = rows_of(command(*singles).out)
    assert len(every) == 19 * 32
    assert rows_of(command(*singles, "--top", "5000").out) == sorted(every, key=lambda row: int(row["rank"]))


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """The experiment and its weights, to be damaged."""
    shutil.copytree(trained.path.parent / trained.path.stem, tmp_path / "e" / trained.path.stem)
    return Path(shutil.copy(trained.path, tmp_path / "e"))


def confirm(path: Path, n_seeds: int) -> list[Path]:
    """Weights as `confirm` leaves them: here those of the search, a little moved."""
    from safetensors.torch import load_file, save_file

    folder = path.parent / path.stem
    files = [folder / f"seed{seed}.safetensors" for seed in range(1, 1 + n_seeds)]
    for seed, file in enumerate(files):
        state = load_file(folder / "fold0.safetensors")
        save_file({name: tensor * (1 + 0.1 * seed) for name, tensor in state.items()}, file)
    record = {
        "experiment": path.stem,
        "checksum": checksum(path),
        "seeds": list(range(1, 1 + n_seeds)),
        "weights": [
            {"seed": seed, "file": file.name, "hash": hash_or_missing(file)} for seed, file in enumerate(files, start=1)
        ],
    }
    (folder / "confirm.json").write_text(json.dumps(record))
    return files


def test_the_ensemble_of_confirm_is_preferred(copied: Path, command: Command) -> None:
    words = ("predict", str(copied), "--mutagenesis", "sites:10", "--quiet")
    alone = rows_of(command(*words).out)
    files = confirm(copied, 3)
    rows = rows_of(command(*words).out)
    members = search.load_experiment(copied).predict_members(
        [WILD_TYPE[:9] + r + WILD_TYPE[10:] for r in "ACDEFGHIKLMNPQRSTVWY"]
    )
    assert members.shape == (3, 20)
    assert [np.float32(row["prediction"]) for row in alone] == members[0].tolist()
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], members.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose([float(row["std"]) for row in rows], members.std(axis=0, ddof=1), rtol=1e-3)

    files[1].write_bytes(files[0].read_bytes())
    assert f"{files[1]} were changed" in command(*words).refusal()
    files[1].unlink()
    assert f"{files[1]} are missing" in command(*words).refusal()
    folder = files[0].parent
    (folder / "confirm.json").write_text("{")
    assert "confirm.json cannot be read" in command(*words).refusal()
    (folder / "confirm.json").write_text(json.dumps({"checksum": "sha256:of another export", "weights": []}))
    answer = command(*words[:-1])
    assert rows_of(answer.out) == alone
    assert "is of an earlier export" in answer.err


def test_seeds_that_left_the_same_weights_are_one_model(copied: Path, command: Command) -> None:
    files = confirm(copied, 3)
    record = json.loads((files[0].parent / "confirm.json").read_text())
    files[2].write_bytes(files[0].read_bytes())
    record["weights"][2]["hash"] = record["weights"][0]["hash"]
    (files[0].parent / "confirm.json").write_text(json.dumps(record))
    answer = command("predict", str(copied), "--mutagenesis", "sites:10")
    assert "20 candidates ranked by 2 models" in answer.err
    assert search.load_experiment(copied).n_members == 2


@pytest.mark.system
def test_a_disk_that_fills_is_a_sentence(trained: Trained, tmp_path: Path) -> None:
    program = (sys.executable, str(ROOT / "run_study.py"), "predict", str(trained.path), "--no-distance", "--quiet")

    def run(*words: str, **options: Any) -> tuple[int, list[str]]:
        done = subprocess.run(
            (*program, *words), cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False, **options
        )
        return done.returncode, done.stderr.splitlines()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    status, [sentence] = run("--mutagenesis", "doubles", "--output", "out.csv", preexec_fn=limit)
    assert (status, "The rows cannot be kept in" in sentence) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == []
    with Path("/dev/full").open("w") as full:
        status, [sentence] = run("--mutagenesis", "sites:10,12", stdout=full)
    assert (status, "Standard output cannot be written (No space left on device)" in sentence) == (1, True)


def test_weights_that_are_not_the_experiments_are_refused(copied: Path, command: Command) -> None:
    words = ("predict", str(copied), "--mutagenesis", "singles")
    weights = copied.parent / copied.stem / "fold0.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{weights} were changed" in command(*words).refusal()
    weights.unlink()
    assert f"{weights} are missing" in command(*words).refusal()
    with pytest.raises(UserError, match="are missing"):
        search.load_experiment(copied)


OTHER = "W" if WILD_TYPE[9] != "W" else "A"
BAD_INPUT = {
    "empty.txt": (b"", "empty.txt is empty"),
    "blank.txt": (b"\n\n \n", "holds no candidates"),
    "header only.csv": (b"sequence\n", "holds no candidates"),
    "no column.csv": (b"name,seqence\na,ACD\n", "line 1: no column is called 'sequence'"),
    "twice.csv": (b"sequence,sequence\nA,C\n", "line 1: two columns are called 'sequence'"),
    "ragged.csv": (b"name,sequence\na,ACD\nb\n", "line 3: 1 cells, but the header has 2"),
    "residue.txt": (
        f"{WILD_TYPE}\n\nACBD\n".encode(),
        "residue.txt, line 3: the residue 'B' at position 3 is not one of",
    ),
    "gap.fasta": (b">a\nAC\n>b\nAC\n-D\n", "line 3: the residue '-' at position 3"),
    "stop.txt": (b"ACD\nAC*D*\n", "line 2: the sequence has a stop codon (*) at position 3"),
    "empty cell.csv": (b"sequence,x\nACD,1\n,2\n", "line 3: the sequence '' holds no residue"),
    "no record.fasta": (b"ACD\n>a\n", "line 1: residues stand before the first header"),
    "no residues.fasta": (b">a\n>b\nACD\n", "line 1: the header is followed by no sequence"),
    "other wild type.csv": (
        f"mutations\nWT\n{OTHER}10C\n".encode(),
        f"line 3: '{OTHER}10C' names {OTHER} at position 10",
    ),
    "its residue.csv": (f"mutations\n{OTHER}10C\n".encode(), f"where the wild type has {WILD_TYPE[9]}"),
    "far.csv": (b"mutations\nA99C\n", "line 2: 'A99C' names position 99, but the wild type has 32 residues"),
    "word.csv": (b"mutations\nWT\nhello\n", "line 3: 'hello' is no mutation"),
    "zero.txt": (b"ACD\n\0\0\n", "line 2: there is a zero byte"),
    "latin.csv": (b"sequence,n\nACD,\x81\n", "line 2: the byte 0x81 is not UTF-8"),
    "cut.txt.gz": (gzip.compress(b"ACDEF\n" * 9)[:-9], "not a gzip file"),
    "table.xlsx": (b"PK\x03\x04....", "is no Excel file that can be read"),
    "one line.txt": (b"A" * (2**20 + 100), "line 1: the line has more than"),
}


def test_bad_input_is_one_sentence_and_leaves_nothing(trained: Trained, command: Command, tmp_path: Path) -> None:
    for name, (content, words) in BAD_INPUT.items():
        (tmp_path / name).write_bytes(content)
        answer = command("predict", str(trained.path), "--input", name, "--output", "out.csv", "--quiet")
        assert words in answer.refusal(), name
        assert answer.out == ""
        (tmp_path / name).unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_comes_late_in_a_file_leaves_nothing_either(trained: Trained, command: Command, tmp_path: Path) -> None:
    Path("late.txt").write_text(f"{WILD_TYPE}\n" * 20_000 + "ACDB\n")
    Path("out.csv").write_text("of another day")
    answer = command("predict", str(trained.path), "--input", "late.txt", "--output", "out.csv", "--no-distance")
    assert "late.txt, line 20001: the residue 'B' at position 4" in answer.refusal()
    assert Path("out.csv").read_text() == "of another day"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late.txt", "out.csv"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--mutagenesis", "sites:10,33"), "The site 33 is outside of the wild type, whose positions are 1 to 32"),
        (("--mutagenesis", "sites:0"), "The site 0 is outside of the wild type"),
        (("--mutagenesis", "sites:10,10"), "The site 10 is named twice"),
        (("--mutagenesis", "sites:1,2,3,4,5,6,7,8"), "would enumerate 25,600,000,000 variants"),
        (("--mutagenesis", "triples"), "'triples' is not valid: expected singles, doubles"),
        (("--mutagenesis", "singles", "--top", "0"), "'0' is not valid"),
        (("--mutagenesis", "singles", "--input", "x"), "not allowed with"),
        ((), "One of the arguments --input --mutagenesis --unmeasured is required"),
        (("--input", "nowhere.csv"), "There is no file nowhere.csv"),
        (("--mutagenesis", "singles", "--output", "out.xlsx"), "--output out.xlsx ends in none of .csv"),
        (("--mutagenesis", "singles", "--output", "no/where.csv"), "There is no folder no"),
        (("--input", "x.csv", "--output", "x.csv"), "is the --input itself"),
        (
            ("--input", "x.csv", "--names"),
            "x.csv, line 1: no column is called 'name' or 'id'",
        ),
        (("--input", "x.csv", "--names", "--format", "text"), "x.csv holds a candidate a line and no names"),
        (("--mutagenesis", "singles", "--names"), "--names goes with --input"),
        (("--mutagenesis", "singles", "--format", "excel"), "--format says how the --input is read"),
    ],
)
def test_other_mistakes(
    words: tuple[str, ...], sentence: str, trained: Trained, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("sequence\nACD\n")
    assert sentence in command("predict", str(trained.path), *words).refusal()


def test_too_long_candidates_are_named(trained: Trained, command: Command) -> None:
    from search.experiments.experiment import load_experiment

    # As a search with data.max_length=32 data.truncate=false would have written it.
    experiment = load_experiment(trained.path)
    data = replace(experiment.config.data, max_length=32, truncate=False)
    from search.experiments.experiment import freeze

    path = Path("strict.yaml")
    freeze(replace(experiment, config=replace(experiment.config, data=data)), path)
    shutil.copytree(trained.path.parent / trained.path.stem, "strict")
    Path("long.fasta").write_text(f">a\n{WILD_TYPE}\n>b\n{WILD_TYPE}A\n")
    answer = command("predict", str(path), "--input", "long.fasta", "--output", "out.csv")
    assert "long.fasta, line 3: a sequence of synthetic_two_vs_rest has 33 residues" in answer.refusal()
    with pytest.raises(UserError, match=r"Sequence 1 \(counted from 0\)"):
        search.load_experiment(path).predict([WILD_TYPE, WILD_TYPE + "A"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(
    number: int, status: int, trained: Trained, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(Counter, "show", lambda *_: os.kill(os.getpid(), number))
    words = ("predict", str(trained.path), "--mutagenesis", "doubles", "--no-distance", "--output", "out.csv")
    assert command(*words).status == status
    assert [path.name for path in tmp_path.iterdir()] == []
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_what_lasts_long(
    number: int, status: int, trained: Trained, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distance(sequences: TrainingSequences, residues: Any, lengths: Any, check: Callable[[], None]) -> None:
        os.kill(os.getpid(), number)
        while True:
            check()
            time.sleep(0.01)

    monkeypatch.setattr(TrainingSequences, "distance", distance)
    monkeypatch.setattr("search.prediction.divided_cores.usable_cores", lambda: 2)
    assert command("predict", str(trained.path), "--mutagenesis", "doubles", "--output", "out.csv").status == status
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_predict_takes_sequences_and_says_which_is_bad(trained: Trained) -> None:
    experiment = search.load_experiment(trained.path)
    assert experiment.task.units == find_task("synthetic_two_vs_rest").units
    assert experiment.predict([]).shape == (0,)
    many = [WILD_TYPE] * 9_000
    assert len(set(experiment.predict(many).tolist())) == 1
    with pytest.raises(UserError, match=r"Sequence 9000 \(counted from 0\): the residue 'J' at position 2"):
        experiment.predict([*many, "AJA"])
    with pytest.raises(TypeError, match="put it into a list"):
        experiment.predict(WILD_TYPE)


def test_the_example_runs(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(search.__path__[0]).parent / "tests" / "examples" / "rank_candidates.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(trained.path), "10", "20"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(script), run_name="__main__")
    first, header, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("400 variants, 1 model(s); prediction in ")
    assert header.split() == ["prediction", "std"]
    assert len(rows) == 10
    assert len({row.split()[0] for row in rows}) == 10
