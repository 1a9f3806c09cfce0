"""The one place that checks what the rows of a study hold.

A database that several people write is input. `search.storage.resilient` passes all that it reads through
`study_problems` or `trial_problems`, so whatever reads an attribute (`search.storage.attributes`) may rely on what
stands here. Keys that are not listed are other programs' business: nothing reads them.
"""

import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.config.run_config import Threads
from search.config.type_checks import describe, fits, shown
from search.machine.standard_streams import printable
from search.storage import attributes as key_of
from search.storage.attributes import READING, RESULT, RETRY_OF
from search.storage.ending import Ending
from search.storage.optuna_internals import ARTIFACTS_ATTR_PREFIX
from search.storage.rows import warm_start_checks
from search.storage.rows.manifest_checks import MANIFEST
from search.storage.rows.value_checks import (
    ID,
    Check,
    count,
    file_hash,
    is_a,
    items,
    line,
    lines,
    mapping,
    matches,
    or_null,
    real_number,
    record,
    whole_number,
)

_text = is_a(str)
_positive = whole_number(1)
_seconds = real_number(0)
_scalar = is_a(bool | int | float | str | None)
_tree = is_a(dict)


def _spearman_curves(where: str, value: Any) -> Iterator[str]:
    """`Result.values`: a list of folds, each a list of values or null for each epoch. Checked quickly: it is long."""
    if not isinstance(value, list) or not all(isinstance(fold, list) for fold in value):
        yield f"{where} is {shown(value)}, expected a list of values for each fold"
        return
    for i, fold in enumerate(value):
        if not set(map(type, fold)) <= {int, float, type(None)}:
            yield f"{where}[{i}] holds something else than numbers and null"
        elif any(number is not None and not -_MOST <= number <= _MOST for number in fold):
            yield f"{where}[{i}] holds a number that is no correlation"


_MOST = 1 + 1e-6
"""The largest correlation, with what float32 may add."""
_spearman = real_number(-_MOST, _MOST)
_weights_file = matches(r"(?:[^\x00-\x1f\x7f]*/)?fold[0-9]{1,6}\.safetensors", "a path that ends in foldN.safetensors")
_override = matches(r"[^-\s\x00-\x1f\x7f][^\x00\x1b]*", "an override such as model.depth=2")

STUDY: Mapping[str, Check] = {
    key_of.MANIFEST: MANIFEST,
    key_of.PROTOCOL: record(
        {"shown": line, "n_sequences": count, "saw_test_sequences": is_a(bool)}, {"stands_for": line}
    ),
    key_of.STUDY_ID: matches(r"[0-9a-f]{32}", "32 hexadecimal digits"),
    key_of.N_TARGET: _positive,
    key_of.HOURS: record({}, {"gpu": _seconds, "core": _seconds}),
    key_of.EXHAUSTED: is_a(bool),
    key_of.VERSIONS: lines,
    key_of.OVERRIDES: items(_override),
    key_of.THREADS: or_null(is_a(Threads)),
    key_of.WEIGHTS: mapping(or_null(line)),
    key_of.CONTROL: line,  # a word of a later version changes nothing (`search.study.control`)
}
_reading = record(
    {"when": line, "experiment": line, "trial": count, "task": line, "data": line, "data_hash": line},
    {"target": or_null(line), "split": or_null(line)},
)
_ENDINGS = tuple(ending.value for ending in Ending)
TRIAL: Mapping[str, Check] = {
    RESULT: record(
        {
            "ending": line,
            "reason": _text,
            "value": or_null(_spearman),
            "values": _spearman_curves,
            "best_epochs": items(or_null(count)),
            "checkpoints": items(_weights_file),
            "n_parameters": count,
            "seconds": _seconds,
            "threads": _positive,
            "device": line,
            "micro_batch_tokens": or_null(_positive),
            "backbone": or_null(line),
        },
        {
            "peak_memory_bytes": count,
            "n_embedded": count,
            "cpu_s": or_null(_seconds),
            "excess_rise": is_a(float | None),
            "max_residues": or_null(_positive),
            "weight_hashes": items(file_hash),
            "versions": lines,
            "machine": lines,
        },
    ),
    key_of.ENDING: matches("|".join(_ENDINGS), describe(Literal[_ENDINGS])),
    key_of.REASON: _text,
    RETRY_OF: count,
    key_of.N_LOST: count,
    key_of.EXCESS_RISE: is_a(float),
    key_of.WORKER: line,
    key_of.SLOT: line,
    key_of.USES: record({"cores": _positive, "gpus": real_number(0, 1), "since": _seconds}),
    key_of.FIRST: is_a(bool),
    key_of.WARM_START: warm_start_checks.OF_TRIAL,
}
# What Optuna's samplers, its pruners and its dashboard keep; by the beginning of the key.
TRIAL_SYSTEM: Mapping[str, Check] = {
    "fixed_params": mapping(_scalar),
    "constraints:": is_a(float),
    "completed_rung_": is_a(float),
    "folds:completed_rung_": is_a(float),
    "tpe:relative_params": _text,
    "gp:relative_params": _text,
    "cma:": is_a(str | int),
    "x_for_tell": is_a(list[float]),
    "grid_id": count,
    "search_space": mapping(is_a(list)),
}
STUDY_SYSTEM: Mapping[str, Check] = {
    "dashboard:note_str:": _text,
    "dashboard:note_ver": count,
}


def study_problems(user: Mapping[str, Any], system: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) of every attribute of a study that does not hold what it should."""
    yield from _problems(user, lambda key: _reading_problems if key.startswith(READING) else STUDY.get(key))
    yield from _problems(system, partial(_system_check, STUDY_SYSTEM))


def attribute_problems(number: int, user: Mapping[str, Any], system: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same of a trial, whose number is `number`."""
    yield from _problems(user, TRIAL.get)
    yield from _problems(system, partial(_system_check, TRIAL_SYSTEM))
    # A retry is made after the trial that it runs again, so that a chain of retries comes to an end.
    before = user.get(RETRY_OF)
    if isinstance(before, int) and before >= number:
        yield RETRY_OF, f"{RETRY_OF} is {before}, expected the number of a trial before {number}"


def trial_problems(trial: FrozenTrial) -> Iterator[str]:
    """What is wrong with a trial: its number, attributes, value, steps and parameters."""
    if not is_trial_number(trial.number):
        yield f"its number is {shown(trial.number)}, expected a whole number from 0"
    for _, problem in attribute_problems(trial.number, trial.user_attrs, trial.system_attrs):
        yield problem
    if trial.state == TrialState.COMPLETE:
        value = trial.values[0] if trial.values and len(trial.values) == 1 else None
        if not is_correlation(value):
            yield f"it is complete with the value {shown(trial.values)}, expected one correlation from -1 to 1"
        result = trial.user_attrs.get(RESULT)
        if isinstance(result, dict) and result.get("value") != value:
            yield f"it is complete with the value {shown(value)}, and its result says {shown(result.get('value'))}"
    for step, reported in trial.intermediate_values.items():
        if not (type(step) is int and step >= 0 and type(reported) is float and math.isfinite(reported)):
            yield f"it reported {shown(reported)} at step {step}, expected a finite number at a step from 0"
    for name, param in trial.params.items():
        if not is_parameter(trial.distributions.get(name), param):
            yield f"its parameter {name} is {shown(param)}, expected a finite number, a text, true, false or null"


def is_trial_number(value: object) -> bool:
    """Whether a trial may have that number; with one below 0 a search would wait for it for ever."""
    return type(value) is int and value >= 0


def is_parameter(distribution: BaseDistribution | None, value: object) -> bool:
    """Whether a value may be a parameter of a distribution, as Optuna reads it: it takes any column as it comes."""
    if type(value) is float:  # as most are
        return math.isfinite(value)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return fits(int | float, value)
    return fits(bool | int | float | str | None, value)


def is_correlation(value: object) -> bool:
    """Whether a value may be a Spearman correlation."""
    return fits(float, value) and -_MOST <= value <= _MOST  # type: ignore[operator]


def _problems(attributes: Mapping[str, Any], check_of: Callable[[str], Check | None]) -> Iterator[tuple[str, str]]:
    for key, value in attributes.items():
        if not isinstance(key, str):  # SQLite keeps anything in any column
            yield key, f"the key {shown(key)} is no text"
        elif (check := check_of(key)) is not None:
            for problem in check(key, value):
                yield key, problem


def _system_check(checks: Mapping[str, Check], key: str) -> Check | None:
    """The check of an attribute that Optuna or its dashboard keeps, by the beginning of its key."""
    if key.startswith(ARTIFACTS_ATTR_PREFIX):
        return _artifact_problems
    return next((check for start, check in checks.items() if key.startswith(start)), None)


def _reading_problems(key: str, value: Any) -> Iterator[str]:
    """A reading of the test set; its key ends in its id."""
    if not re.fullmatch(f"{READING}{ID}", key):
        yield f"the key {shown(key)} names no reading, expected {READING} and 32 hexadecimal digits"
    yield from _reading(printable(key), value)


def _artifact_problems(key: str, text: Any) -> Iterator[str]:
    """An artifact's id names a file of ours, and its key; its file name is only shown."""
    try:
        about = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        yield f"{printable(key)} is {shown(text)}, expected JSON"
        return
    if about is None:
        return
    problems = [*record({"artifact_id": _text, "filename": _file_name, "mimetype": line})(printable(key), about)]
    if not problems and (not _is_uuid(about["artifact_id"]) or key != ARTIFACTS_ATTR_PREFIX + about["artifact_id"]):
        problems = [f"{printable(key)} names artifact {shown(about['artifact_id'])}, expected the UUID of its key"]
    yield from problems


_file_name = matches(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f]{1,255}", "the name of a file without a folder")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
