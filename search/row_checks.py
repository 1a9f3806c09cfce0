"""The one place that checks what the rows of a study hold.

A database that several people write is input. `search.resilient` passes all that it reads through `study_problems`
or `trial_problems`, so whatever reads an attribute (`search.attributes`) may rely on what stands here. Keys that are
not listed are other programs' business: nothing reads them.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX
from optuna.trial import FrozenTrial, TrialState

from models.bounds import Interval
from search.annotations import describe, fits, shown
from search.attributes import (
    CONTROL,
    ENDING,
    EXCESS_RISE,
    EXHAUSTED,
    FIRST,
    MANIFEST,
    N_LOST,
    N_TARGET,
    OVERRIDES,
    PROTOCOL,
    REASON,
    RESULT,
    RETRY_OF,
    SLOT,
    STUDY_ID,
    VERSIONS,
    WEIGHTS,
    WORKER,
    printable,
)

Check = Callable[[str, Any], Iterator[str]]
"""Given the name of a value and the value, what is wrong with it: `n_target='x', expected int >= 1`."""


def _is(annotation: Any) -> Check:
    """The value fits an annotation."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not fits(annotation, value):
            yield f"{where} is {shown(value)}, expected {describe(annotation)}"

    return check


def _matches(pattern: str, expected: str) -> Check:
    """The value is a text that matches the whole pattern."""
    compiled = re.compile(pattern, re.DOTALL)

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            yield f"{where} is {shown(value)}, expected {expected}"

    return check


def _items(item: Check, expected: str = "a list") -> Check:
    """The value is a list, and each of its items passes."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where} is {shown(value)}, expected {expected}"
            return
        for i, each in enumerate(value):
            yield from item(f"{where}[{i}]", each)

    return check


def _mapping(item: Check) -> Check:
    """The value is a mapping, and each of its values passes."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is {shown(value)}, expected a mapping"
            return
        for key, each in value.items():
            yield from _line(f"a key of {where}", key)
            yield from item(f"{where}.{key}", each)

    return check


def _record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """The value is a mapping with these keys; others, say of a later version, are nobody's business."""
    checks = {**required, **(optional or {})}

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is {shown(value)}, expected a mapping"
            return
        missing = [key for key in required if key not in value]
        if missing:
            yield f"{where} lacks {', '.join(missing)}"
        for key in checks.keys() & value.keys():
            yield from checks[key](f"{where}.{key}", value[key])

    return check


def _or_null(check: Check) -> Check:
    return lambda where, value: iter(()) if value is None else check(where, value)


_line = _matches(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,4096}", "a line of text without control characters")
_text = _is(str)
_count = _is(Annotated[int, Interval(ge=0)])
_positive = _is(Annotated[int, Interval(ge=1)])
_seconds = _is(Annotated[float, Interval(ge=0)])
_scalar = _is(bool | int | float | str | None)
_lines = _mapping(_line)
_tree = _is(dict)


def _constructor(where: str, value: Any) -> Iterator[str]:
    """A mapping that names a class; which one may stand there is decided where it is built."""
    yield from _record({"_target_": _line})(where, value)


def _leaf(where: str, value: Any) -> Iterator[str]:
    """A searched value of the space."""
    about = _record(
        {"type": _is(Literal["int", "float", "categorical"])}, {"choices": _is(list), "when": _or_null(_tree)}
    )
    yield from about(where, value)


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
_spearman = _is(Annotated[float, Interval(ge=-_MOST, le=_MOST)])
_weights_file = _matches(r"(?:[^\x00-\x1f\x7f]*/)?fold[0-9]{1,6}\.safetensors", "a path that ends in foldN.safetensors")
_hash = _matches(r"sha256:[0-9a-f]{64}|missing", "sha256: and 64 digits")
_table = _record({"target_column": _line, "split": _or_null(_line), "wild_type": _or_null(_line)})
_override = _matches(r"[^-\s\x00-\x1f\x7f][^\x00\x1b]*", "an override such as model.depth=2")

STUDY: Mapping[str, Check] = {
    MANIFEST: _record(
        {
            "task": _line,
            "model": _line,
            "data_hash": _line,
            "data": _line,
            "space_hash": _line,
            "config_hash": _line,
            "sampler": _constructor,
            "pruner": _constructor,
            "space": _mapping(_leaf),
            "config": _tree,
        },
        {"validation": _constructor, "epochs_per_fold": _positive, "table": _table},
    ),
    PROTOCOL: _record({"shown": _line, "n_sequences": _count, "saw_test_sequences": _is(bool)}, {"stands_for": _line}),
    STUDY_ID: _matches(r"[0-9a-f]{32}", "32 hexadecimal digits"),
    N_TARGET: _positive,
    EXHAUSTED: _is(bool),
    VERSIONS: _lines,
    OVERRIDES: _items(_override),
    WEIGHTS: _mapping(_or_null(_line)),
    CONTROL: _line,  # a word of a later version changes nothing (`search.control`)
}
_ENDINGS = (
    *("complete", "stopped", "pruned", "diverged", "constant", "out_of_memory", "timeout"),
    *("bug", "refused", "interrupted", "lost", "transient"),
)
TRIAL: Mapping[str, Check] = {
    RESULT: _record(
        {
            "ending": _line,
            "reason": _text,
            "value": _or_null(_spearman),
            "values": _spearman_curves,
            "best_epochs": _is(list[Annotated[int, Interval(ge=0)] | None]),
            "checkpoints": _items(_weights_file),
            "n_parameters": _count,
            "seconds": _seconds,
            "threads": _positive,
            "device": _line,
            "micro_batch_tokens": _or_null(_positive),
            "backbone": _or_null(_line),
        },
        {
            "peak_memory_bytes": _count,
            "n_embedded": _count,
            "cpu_s": _or_null(_seconds),
            "excess_rise": _is(float | None),
            "weight_hashes": _items(_hash),
            "versions": _lines,
            "machine": _lines,
        },
    ),
    ENDING: _is(Literal[_ENDINGS]),
    REASON: _text,
    RETRY_OF: _count,
    N_LOST: _count,
    EXCESS_RISE: _is(float),
    WORKER: _line,
    SLOT: _line,
    FIRST: _is(bool),
}
# What Optuna's samplers, its pruners and its dashboard keep; by the beginning of the key.
TRIAL_SYSTEM: Mapping[str, Check] = {
    "fixed_params": _mapping(_scalar),
    "constraints:": _is(float),
    "completed_rung_": _is(float),
    "folds:completed_rung_": _is(float),
    "tpe:relative_params": _text,
    "gp:relative_params": _text,
    "cma:": _is(str | int),
    "x_for_tell": _is(list[float]),
    "grid_id": _count,
    "search_space": _mapping(_is(list)),
}
STUDY_SYSTEM: Mapping[str, Check] = {
    "dashboard:note_str:": _text,
    "dashboard:note_ver": _count,
}


def study_problems(user: Mapping[str, Any], system: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) of every attribute of a study that does not hold what it should."""
    yield from _problems(user, STUDY)
    yield from _system_problems(system, STUDY_SYSTEM)


def attribute_problems(number: int, user: Mapping[str, Any], system: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same of a trial, whose number is `number`."""
    yield from _problems(user, TRIAL)
    yield from _system_problems(system, TRIAL_SYSTEM)
    # A retry is made after the trial that it runs again, so that a chain of retries comes to an end.
    before = user.get(RETRY_OF)
    if isinstance(before, int) and before >= number:
        yield RETRY_OF, f"{RETRY_OF} is {before}, expected the number of a trial before {number}"


def trial_problems(trial: FrozenTrial) -> Iterator[str]:
    """What is wrong with a trial: its number, attributes, value, steps and parameters."""
    if not fits(int, trial.number):
        yield f"its number is {shown(trial.number)}, expected a whole number"
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
        if not fits(int, step) or step < 0 or not fits(float, reported):
            yield f"it reported {shown(reported)} at step {step}, expected a finite number at a step from 0"
    for name, param in trial.params.items():
        if not fits(bool | int | float | str | None, param):
            yield f"its parameter {name} is {shown(param)}, expected a finite number, a text, true, false or null"


def is_correlation(value: object) -> bool:
    """Whether a value may be a Spearman correlation."""
    return fits(float, value) and -_MOST <= value <= _MOST  # type: ignore[operator]


def _problems(attributes: Mapping[str, Any], checks: Mapping[str, Check]) -> Iterator[tuple[str, str]]:
    for key in checks.keys() & attributes.keys():
        for problem in checks[key](key, attributes[key]):
            yield key, problem


def _system_problems(attributes: Mapping[str, Any], checks: Mapping[str, Check]) -> Iterator[tuple[str, str]]:
    problems: Iterator[str]
    for key, value in attributes.items():
        if not isinstance(key, str):  # SQLite keeps anything in any column
            problems = iter([f"the key {shown(key)} is no text"])
        elif key.startswith(ARTIFACTS_ATTR_PREFIX):
            problems = _artifact_problems(key, value)
        else:
            check = next((check for start, check in checks.items() if key.startswith(start)), None)
            problems = iter(()) if check is None else check(key, value)
        for problem in problems:
            yield key, problem


def _artifact_problems(key: str, text: Any) -> Iterator[str]:
    """An artifact's id names a file of ours, and its key; its file name is only shown."""
    try:
        about = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        yield f"{printable(key)} is {shown(text)}, expected JSON"
        return
    if about is None:
        return
    problems = [*_record({"artifact_id": _text, "filename": _file_name, "mimetype": _line})(printable(key), about)]
    if not problems and (not _is_uuid(about["artifact_id"]) or key != ARTIFACTS_ATTR_PREFIX + about["artifact_id"]):
        problems = [f"{printable(key)} names artifact {shown(about['artifact_id'])}, expected the UUID of its key"]
    yield from problems


_file_name = _matches(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f]{1,255}", "the name of a file without a folder")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
