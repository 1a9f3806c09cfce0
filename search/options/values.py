"""Values of options: each function turns a word into a value, or says what was expected."""

import argparse
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

STOP_S = 30
"""So long before the end of its time a trial that still runs is stopped, and written down to be run again."""
LONGEST_NAME = 100
"""Letters of a study's name."""
_LEAST_DRAIN_S, _MOST_DRAIN_S = STOP_S + 15, 65535  # more is no time for SLURM
_SET_BY_US = re.compile(
    "array|export-file|requeue|no-requeue|open-mode|signal|output|error|job-name|chdir|wrap|parsable|test-only|"
    "wait|input|gres|time|partition|account|cpus-per-task|mem|ntasks|help|usage|version|quiet|verbose"
)

S3_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#]*))?")
"""A bucket of S3, and what the names in it begin with."""


def _refusal(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is not valid: expected {expected}")


def _whole(text: str, low: int, high: int, expected: str) -> int:
    if not re.fullmatch(r"0{0,9}[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise _refusal(text, expected)
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1, 999999999, "a whole number from 1 to 999999999")


def position(text: str) -> int:
    """The number of a residue, which may be 0 or less."""
    if not re.fullmatch(r"-?[0-9]{1,7}", text):
        raise _refusal(text, "a whole number, that of the wild type's first residue, such as 24")
    return int(text)


def level(text: str) -> float:
    """A share above 0 and below 1."""
    if not re.fullmatch(r"0?\.[0-9]{1,9}", text) or float(text) == 0:
        raise _refusal(text, "a number above 0 and below 1, such as 0.9")
    return float(text)


def multiple(text: str) -> float:
    """A number from 0 on."""
    if not re.fullmatch(r"[0-9]{0,6}\.?[0-9]{1,9}", text):
        raise _refusal(text, "a number from 0 on, such as 0.5")
    return float(text)


def mutagenesis(text: str) -> tuple[str, tuple[int | str, ...]]:
    """The kind and, where some are named, the numbers of positions, or `H39` in chains: up to 20 for combinations,
    1,000 for doubles.
    """
    if text in ("singles", "doubles"):
        return text, ()
    kind, _, numbers = text.partition(":")
    most = {"sites": 20, "doubles": 1000}.get(kind, 0)
    if not re.fullmatch(r"{0}(,{0})*".format("(-?|[A-Za-z])[0-9]{1,7}"), numbers) or numbers.count(",") >= most:
        raise _refusal(
            text if len(text) <= 60 else f"{text[:57]}...",
            "singles, doubles, or positions of the wild type: doubles:11,170 for all pairs of up to 1,000, "
            "sites:39,40,41,54 for all combinations of up to 20",
        )
    sites = tuple(site if site[0].isalpha() else int(site) for site in numbers.split(","))
    if kind == "doubles" and len(sites) < 2:
        raise _refusal(text, "two positions or more, such as doubles:11,170")
    return kind, sites


class Requirement(NamedTuple):
    """What a property has to be: `sign` is `>=` or `<=`, and a bound is met by what is equal to it."""

    property: str
    sign: str
    bound: float


def requirement(text: str) -> Requirement:
    """A property and its bound, `stability>=0.5`."""
    found = re.fullmatch(
        r"(?s)(.+?)\s*([<>]=?)\s*([+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,3})?)", text, re.ASCII
    )
    if found is None or not found[1].strip() or not math.isfinite(float(found[3])):
        raise _refusal(text[:60], 'a property and its bound, such as "stability>=0.5" or "aggregation<=2"')
    return Requirement(found[1].strip(), found[2][0] + "=", float(found[3]))


def requirements(given: Sequence[Requirement | str] | str) -> tuple[Requirement, ...]:
    """What is required, from texts or as it is."""
    every = (given,) if isinstance(given, str) else given
    return tuple(one if isinstance(one, Requirement) else requirement(str(one)) for one in every)


def trial_number(text: str) -> int:
    """The number of a trial."""
    return _whole(text, 0, 999999999, "the number of a trial, as `status` shows it")


def interval_s(text: str) -> float:
    """Seconds from 0.1 to 3600."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) or not 0.1 <= float(text) <= 3600:
        raise _refusal(text, "seconds from 0.1 to 3600")
    return float(text)


def count(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0, 999999999, "a whole number from 0 to 999999999")


def number_or_auto(text: str) -> int | None:
    """A number of workers, or of a GPU's slots; None stands for auto."""
    return None if text == "auto" else _whole(text, 1, 999, "a whole number from 1 to 999, or auto")


def duration(text: str) -> float:
    """A time in seconds, from seconds, minutes or hours."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smh]?)", text)
    seconds = float(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1) if found else 0.0
    if seconds == 0:
        raise _refusal(text, "seconds, or a time such as 90s, 15m or 2h")
    return seconds


def hours(text: str) -> float:
    """A number of hours above 0."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text) or float(text) == 0:
        raise _refusal(text, "hours, a number above 0 such as 0.5 or 200")
    return float(text)


def is_study_name(text: str) -> bool:
    """Whether a study may be called so: its name is that of a folder, too, and stands in commands."""
    return len(text) <= LONGEST_NAME and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", text) is not None


def study_name(text: str) -> str:
    """The name of a study, and so of files."""
    if not is_study_name(text):
        raise _refusal(text, "up to 100 letters, digits and . _ + -, since files are named by it")
    return text


def port(text: str) -> int:
    """A port, 0 for a free one."""
    return _whole(text, 0, 65535, "a port from 0 to 65535")


def gpus(text: str) -> str:
    """A number of GPUs, of a type where one is named."""
    if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}:)?(0|[1-9][0-9]{0,2})", text):
        raise _refusal(text, "a number such as 1, or a type and a number such as a100:1")
    return text


def memory(text: str) -> str:
    """A size in mebibytes, gibibytes or tebibytes."""
    if not re.fullmatch(r"[1-9][0-9]{0,6}[MGT]", text):
        raise _refusal(text, "a whole number and M, G or T, such as 16G")
    return text


def drain_time(text: str) -> int:
    """Whole seconds in which a worker drains."""
    seconds = int(duration(text))
    if not _LEAST_DRAIN_S <= seconds <= _MOST_DRAIN_S:
        raise _refusal(text, f"a time from {_LEAST_DRAIN_S}s to 18h, such as 90s or 15m")
    return seconds


def wall_time(text: str) -> int:
    """Whole seconds; a bare number would be seconds to us and minutes to SLURM."""
    found = re.fullmatch(r"(?:([0-9]{1,3})-)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])", text)
    if found:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    else:
        short = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
        total = int(short[1]) * {"m": 60, "h": 3600, "d": 86400}[short[2]] if short else 0
    if not 60 <= total < 1000 * 86400:
        raise _refusal(text, "a minute or more, such as 90m, 12h, 2d, 12:00:00 or 1-12:00:00")
    return total


def plain_name(text: str) -> str:
    """What stands in an #SBATCH line: a partition or several, an account."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,199}", text):
        raise _refusal(text, "letters, digits and _ . , + -")
    return text


def shell_line(text: str) -> str:
    """One line of shell, run as it is."""
    if not text.strip() or not text.isprintable() or text.endswith("\\") or len(text) > 2000:
        raise _refusal(text, "one whole line of shell without control characters, such as 'module load cuda'")
    return text


def sbatch_option(text: str) -> str:
    """An option of sbatch that is no other of ours."""
    found = re.fullmatch(r"--([a-z][a-z-]{1,40})(=[A-Za-z0-9_.,:/@%+*&|\[\]-]{1,200})?", text)
    if not found:
        raise _refusal(text, "a long option of sbatch and its value in one word, such as --sbatch=--qos=high")
    if _SET_BY_US.fullmatch(found[1]):
        raise argparse.ArgumentTypeError(f"--{found[1]} is set by `submit` itself: see its own options")
    return text


def artifact_place(text: str) -> str:
    """A folder, or a bucket of S3: jobs are not to find out what is wrong with its name."""
    if "://" in text and not S3_PLACE.fullmatch(text):
        raise _refusal(text, "a folder, or s3://BUCKET or s3://BUCKET/PREFIX")
    return text


def image(text: str) -> str:
    """The name of an image."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", text):
        raise _refusal(text, "an image such as registry.example.org/flipsearch:1")
    return text


def object_name(text: str) -> str:
    """The name of an object in Kubernetes."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", text):
        raise _refusal(text, "lower-case letters, digits, - and .")
    return text
