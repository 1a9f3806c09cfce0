"""An existing study goes on with the space, the defaults and the threads that it began with, whatever are today's."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search.checkout import STUDIES
from search.config import targets
from search.config.compose import fixed_paths, parse
from search.config.nested import Scalar, difference, flatten, nest, overlay
from search.config.resolve import resolve
from search.space.conditions import path_of
from search.study.config import StudyConfig, space_over, values_that_follow

if TYPE_CHECKING:
    from optuna import Study


def as_recorded(
    config: StudyConfig, about: Mapping[str, Any], *, now: Sequence[str], then: Sequence[str]
) -> tuple[StudyConfig, list[str]]:
    """The config with what a study recorded in its manifest `about`, and a line for each value that differs from today.

    `now` and `then` are the overrides of this command and of the one that began the study: what either of them names is
    no default, so it stays as the command has it, and the study refuses it if it differs. A setting that the study did
    not record is one that there was not yet; its default means what was done before there was the setting.

    The manifest stands in a database that others write: its space, sampler and pruner are checked as those of a command
    are, and no class is taken from it but these.

    Raises:
        UserError: What was recorded is no config of today.
    """
    named = {path for overrides in (now, then) for path in fixed_paths(overrides, STUDIES)}
    is_same = {group: _words(now, group) == _words(then, group) for group in ("space", "sampler", "pruner")}
    recorded, known = dict(about["config"]), dict(flatten(config.tree))
    before = {
        path: value
        for path, value in recorded.items()
        if path in known
        and known[path] != value
        and not _is_below(path, {*named, "validation"})
        and _is_plain(path, value)
    }
    model = targets.defaults(config.defaults["model"])  # what it was before it had the argument
    newer = {
        path: value
        for path, value in ((f"model.{name}", value) for name, value in model.items())
        if path in known and path not in {*recorded, *named}
    }
    searched = {path_of(name) for name in about["space"]}
    tree = overlay(config.tree, before | {path: value for path, value in newer.items() if path not in searched})
    defaults = resolve(tree, {})
    space = config.space
    if is_same["space"]:
        leaves: dict[str, list[Any]] = {}
        for name, leaf in about["space"].items():
            leaves.setdefault(path_of(name), []).append(leaf)
        searched_then = nest({path: found[0] if len(found) == 1 else found for path, found in leaves.items()})
        space = space_over(tree, defaults, searched_then, sorted(named))
    same = replace(
        config,
        tree=tree,
        defaults=defaults,
        derived=values_that_follow(tree, defaults, space),
        space=space,
        sampler=targets.check(about["sampler"], targets.SAMPLER, "sampler") if is_same["sampler"] else config.sampler,
        pruner=targets.check(about["pruner"], targets.PRUNER, "pruner") if is_same["pruner"] else config.pruner,
        first_trials=(),  # they were queued when it began
        unrecorded=frozenset(path for path in known if path not in recorded and not _is_below(path, named)),
    )
    lines = [
        *difference(recorded, {**recorded, **{path: known[path] for path in before}}),
        *(f"space.{line}" for line in difference(same.space.tree, config.space.tree)),
        *difference(
            {"sampler": same.sampler, "pruner": same.pruner}, {"sampler": config.sampler, "pruner": config.pruner}
        ),
    ]
    return same, lines


def note_threads(study: "Study", threads: int) -> None:
    """Note the threads of trials whose config names none, as `search.training.threads` finds them for a new study.

    Whoever goes on keeps to them, so that a later rule changes no bits. Under the database's lock; a study with trials
    but without the note is of an earlier version, see `noted_threads`. Of one whose note was damaged
    `search.storage.rows.damage` leaves null, and the rule says again what it said.
    """
    from search.storage.attributes import THREADS  # Optuna, which a mistake in a command does not wait for

    attributes = study.user_attrs
    if attributes.get(THREADS) is None and (THREADS in attributes or not study.get_trials(deepcopy=False)):
        study.set_user_attr(THREADS, threads)


def noted_threads(study: "Study") -> int | None:
    """What `note_threads` noted; None of a study that began before, whose trials took the cores of their worker."""
    from search.storage.attributes import THREADS

    found: int | None = study.user_attrs.get(THREADS)
    return found


def _is_plain(path: str, value: Any) -> bool:
    """Whether a value is a number, a word or a list of these, and names no class."""
    items = value if isinstance(value, list) else [value]
    return not path.endswith("_target_") and all(isinstance(item, Scalar) for item in items)


def _words(overrides: Sequence[str], group: str) -> set[str]:
    """The overrides of a group and of what is below it, as they were given."""
    return {str(override.input_line) for override in parse(overrides) if _is_below(override.key_or_group, {group})}


def _is_below(path: str, names: Collection[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)
