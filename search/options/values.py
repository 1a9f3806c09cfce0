"""Values of options: each function turns a word into a value, or says what was expected."""

import argparse
import re


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


def workers(text: str) -> int | None:
    """A number of workers; None stands for auto."""
    return None if text == "auto" else _whole(text, 1, 999, "a whole number from 1 to 999, or auto")


def duration(text: str) -> float:
    """A time in seconds, from seconds, minutes or hours."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smh]?)", text)
    seconds = float(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1) if found else 0.0
    if seconds == 0:
        raise _refusal(text, "seconds, or a time such as 90s, 15m or 2h")
    return seconds


def is_study_name(text: str) -> bool:
    """Whether a study may be called so: its name is that of a folder, too, and stands in commands."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text) is not None


def study_name(text: str) -> str:
    """The name of a study, and so of files."""
    if not is_study_name(text):
        raise _refusal(text, "up to 100 letters, digits and . _ + -, since files are named by it")
    return text


def port(text: str) -> int:
    """A port, 0 for a free one."""
    return _whole(text, 0, 65535, "a port from 0 to 65535")
