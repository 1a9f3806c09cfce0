"""Which configurations of earlier studies a study begins with, and the record of them that its manifest keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optuna import Study

from datasets.common.errors import UserError
from search.config.nested import Scalar, lookup
from search.config.type_checks import shown
from search.space.conditions import holds, path_of
from search.space.distributions import FloatRange
from search.space.space import Space
from search.storage.attributes import WARM_START
from search.study.warm_start.source import Configuration, Predecessor

_NOTHING = object()


def choose(
    sources: Sequence[Predecessor], space: Space, defaults: Mapping[str, Any], *, model: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """The configurations that fit, as `WARM_START` records them, and a sentence for each that is left out.

    A study takes of an earlier one the values of the settings that it searches itself; all else stays as it has it. A
    setting that the earlier study did not have is tried at this study's own value.

    Raises:
        UserError: A source is of another family, or none of its configurations fits.
    """
    if not len(space):
        raise UserError("--warm-start is for a study that searches something: its space is empty, leave it out.")
    chosen: list[dict[str, Any]] = []
    left_out = []
    for source in sources:
        if source.model != model:
            raise UserError(
                f"--warm-start {source.name} is of the model {source.model or '(unknown)'}, and this study of {model}: "
                "name studies of the same model."
            )
        why = []
        for one in source.configurations:
            params, problem = fitted(one, space, defaults)
            if problem is not None:
                why.append(f"trial {one.trial}: {problem}")
            elif all(params != other["params"] for other in chosen):
                chosen.append({"study": one.study, "trial": one.trial, "value": one.value, "params": params})
        if len(why) == len(source.configurations):
            raise UserError(
                f"No configuration of --warm-start {source.name} lies in this study's space ({'; '.join(why)}): widen "
                "the space, or leave it out."
            )
        left_out += [f"Of {source.name} is left out {words}." for words in why]
    return chosen, left_out


def fitted(one: Configuration, space: Space, defaults: Mapping[str, Any]) -> tuple[dict[str, Scalar], str | None]:
    """The parameters of a trial in this space that has a configuration's values; or why there is none."""
    params: dict[str, Scalar] = {}
    values: dict[str, Any] = {}
    for name, leaf in space.leaves.items():
        if not holds(leaf.when, values, defaults):
            continue
        path = path_of(name)
        value = one.values.get(path, _NOTHING)
        where = f"{path}={shown(value)}"
        if value is _NOTHING:
            value = lookup(defaults, path)
            where = f"it has no {path}, and this study's own {shown(value)}"
        if not leaf.contains(value):
            return {}, f"{where} is outside of space.{name}"
        params[name] = values[path] = float(value) if isinstance(leaf, FloatRange) else value
    return params, None


def record_of(
    names: Sequence[str],
    sources: Sequence[Predecessor],
    n_seen: Sequence[int | None],
    chosen: Sequence[Mapping[str, Any]],
    *,
    allow_seen: bool,
    n_test: int,
) -> dict[str, Any]:
    """What the manifest keeps of a warm start; `n_seen` belongs to the selections of all sources, in their order.

    Raises:
        UserError: A selection saw test sequences, or nobody can tell, and that is not allowed.
    """
    selections = [(source, one) for source in sources for one in source.selections]
    for (source, one), n in zip(selections, n_seen, strict=True):
        if n == 0 or allow_seen:
            continue
        whose = f"study {one.study!r}" + ("" if one.study == source.name else f", with which {source.name} began,")
        if n is None:
            raise UserError(
                f"--warm-start {source.name}: the split of {whose} (task {one.task}) is not in this --runs-dir, so "
                "nobody can tell whether it trained or validated on this study's test sequences: run a search of it "
                "there, leave it out, or accept that with --allow-seen, which is recorded."
            )
        raise UserError(
            f"--warm-start {source.name}: {whose} trained or validated on {n:,} of this study's {n_test:,} test "
            "sequences, so its choice has seen what is sealed: leave it out, or accept that with --allow-seen, which "
            "is recorded."
        )
    known = [{**asdict(one), "n_seen": n} for (_, one), n in zip(selections, n_seen, strict=True)]
    unique = list({(one["study"], one["task"], one["data_hash"]): one for one in known}.values())
    return {"from": list(names), "allow_seen": allow_seen, "selections": unique, "trials": [*map(dict, chosen)]}


def enqueue(study: Study, record: Mapping[str, Any]) -> None:
    """Queue the configurations of a record, each once however often the study is opened.

    To be called under the database's lock.
    """
    for one in record["trials"]:
        origin = {WARM_START: {"study": one["study"], "trial": one["trial"]}}
        study.enqueue_trial(dict(one["params"]), user_attrs=origin, skip_if_exists=True)


def origin_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What an experiment keeps of a study's record: without the parameters, which the study has."""
    trials = [{"study": one["study"], "trial": one["trial"]} for one in record["trials"]]
    return {"allow_seen": record["allow_seen"], "selections": record["selections"], "trials": trials}


def seen_sentences(record: Mapping[str, Any] | None) -> list[str]:
    """What has to be said beside a test value of a study that began so; nothing where the test set was not seen."""
    found = []
    for one in () if record is None else record["selections"]:
        if one["n_seen"] == 0:
            continue
        what = (
            "of which is not known whether it trained or validated on these test sequences"
            if one["n_seen"] is None
            else f"which trained or validated on {one['n_seen']:,} of these test sequences"
        )
        found.append(f"The search began with configurations of study {one['study']}, {what} (--allow-seen).")
    return found


def words_of(record: Mapping[str, Any]) -> str:
    """`3 configurations of study-a (trials 1, 4, 7) and 1 of study-b (trial 0)`."""
    by_study: dict[str, list[int]] = {}
    for one in record["trials"]:
        by_study.setdefault(one["study"], []).append(one["trial"])
    return " and ".join(
        f"{len(trials)} configuration{'s' * (len(trials) > 1)} of {study} "
        f"(trial{'s' * (len(trials) > 1)} {', '.join(map(str, trials))})"
        for study, trials in by_study.items()
    )
