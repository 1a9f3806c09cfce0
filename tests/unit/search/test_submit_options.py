"""The options of `submit`: what they take, and one sentence for each mistake."""

import pytest

from datasets.common.errors import UserError
from search.options.arguments import parse
from search.options.of_submit import search_words
from search.options.values import wall_time

WHAT = ["--task", "synthetic_two_vs_rest", "--model", "ridge"]
SLURM = ["submit", "--slurm", *WHAT]
KUBERNETES = ["submit", "--kubernetes", *WHAT]


def test_the_defaults() -> None:
    arguments = parse([*SLURM, "trainer.threads=1"])
    assert (arguments.command, arguments.slurm, arguments.jobs, arguments.gpus) == ("submit", True, 1, None)
    assert (arguments.drain_time, arguments.time, arguments.setup) == (90, None, [])
    assert arguments.overrides == ["task=synthetic_two_vs_rest", "model=ridge", "trainer.threads=1"]
    assert arguments.search_words == [*WHAT, "trainer.threads=1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--slurm", "--jobs", "4", "--n-trials", "8"], ["--n-trials", "8"]),
        (["--jobs=4", "a=1", "--dry-run", "~b"], ["a=1", "~b"]),
        (["--setup", "--jobs is no option here", "--workers", "auto"], ["--workers", "auto"]),
        (["--sbatch=--qos=high", "--timeout", "2h"], ["--timeout", "2h"]),
        (["--study-name", "jobs", "--memory", "4G", "--quiet"], ["--study-name", "jobs", "--quiet"]),
    ],
)
def test_a_job_gets_the_words_of_the_search_alone(words: list[str], expected: list[str]) -> None:
    assert search_words(words) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m", 60), ("90m", 5400), ("12h", 43200), ("2d", 172800), ("1:00:00", 3600), ("1-02:03:04", 93784)],
)
def test_time_limits(text: str, seconds: int) -> None:
    assert wall_time(text) == seconds


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit"], "submit --slurm or submit --kubernetes"),
        (["submit", *WHAT], "submit --slurm or submit --kubernetes"),
        (["submit", "--slurm"], "Name a task and a model"),
        ([*SLURM, "--kubernetes"], "not allowed with"),
        ([*SLURM, "--time", "90"], "90m, 12h"),
        ([*SLURM, "--time", "59s"], "a minute or more"),
        ([*SLURM, "--time", "9999-00:00:00"], "a minute or more"),
        ([*SLURM, "--time", "1m"], "leaves none for trials"),
        ([*SLURM, "--drain-time", "10s"], "from 45s"),
        ([*SLURM, "--drain-time", "19h"], "from 45s"),
        ([*SLURM, "--jobs", "0"], "from 1"),
        ([*SLURM, "--artifacts", "s3://"], "a folder, or s3://BUCKET"),
        ([*KUBERNETES, "--image", "a", "--artifacts", "gs://a/b"], "a folder, or s3://BUCKET"),
        ([*SLURM, "--gpus", "-1"], "a type and a number"),
        ([*SLURM, "--gpus", "a100"], "a type and a number"),
        ([*SLURM, "--memory", "16"], "such as 16G"),
        ([*SLURM, "--memory", "16GB"], "such as 16G"),
        ([*SLURM, "--partition", "a b"], "letters, digits"),
        ([*SLURM, "--partition", "a\n#SBATCH --uid=0"], "letters, digits"),
        ([*SLURM, "--partition", "-x"], "expected one argument"),
        ([*SLURM, "--account=-x"], "letters, digits"),
        ([*SLURM, "--account", "ä"], "letters, digits"),
        ([*SLURM, "--setup", "one\ntwo"], "one whole line of shell"),
        ([*SLURM, "--setup", "one\\"], "one whole line of shell"),
        ([*SLURM, "--setup", "\x1b[2J"], "one whole line of shell"),
        ([*SLURM, "--sbatch", "qos=high"], "a long option"),
        ([*SLURM, "--sbatch=-q high"], "a long option"),
        ([*SLURM, "--sbatch=--comment=a b"], "a long option"),
        ([*SLURM, "--sbatch=--array=1-9"], "--array is set by `submit` itself"),
        ([*SLURM, "--sbatch=--signal=KILL@1"], "--signal is set by `submit` itself"),
        ([*SLURM, "--image", "x"], "--image is of --kubernetes"),
        ([*SLURM, "--volume-claim", "x"], "--volume-claim is of --kubernetes"),
        ([*KUBERNETES], "add --image NAME"),
        ([*KUBERNETES, "--image", "x y"], "an image such as"),
        ([*KUBERNETES, "--image", "x", "--storage-secret", "Secret_1"], "lower-case letters"),
        ([*KUBERNETES, "--image", "x", "--partition", "gpu"], "--partition is of --slurm"),
        ([*KUBERNETES, "--image", "x", "--sbatch=--qos=a"], "--sbatch is of --slurm"),
        ([*KUBERNETES, "--image", "x", "--gpus", "a100:1"], "names a type"),
        (["submit", "--status", "--cancel"], "not allowed with"),
        (["submit", "--status", "--task", "x"], "takes no --task"),
        (["submit", "--status", "--dry-run"], "takes no --dry-run"),
        (["submit", "--status", "a=1"], "takes no a=1"),
        (["submit", "--cancel"], "--cancel needs the study's name"),
        (["submit", "--cancel", "--study-name", "../x"], "up to 100 letters"),
        ([*SLURM, "--slrum"], "Did you mean '--slurm'"),
        ([*SLURM, "--address", "node-1:6379"], "--engine ray is: give both"),
    ],
)
def test_mistakes(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(words)
    assert sentence in str(raised.value)
    assert raised.value.exit_status == 2
