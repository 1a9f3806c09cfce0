"""Which validation protocol a study or a run has, once its split is known."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from datasets.task import Task
from search.config import targets

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from datasets.validation.protocols import Validation
    from search.study.config import StudyConfig


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol and what is to be said of it.

    `tree` is its config, `shown` what people read ("auto: kfold of 5"), `n_sequences` how many sequences a value speaks
    of, and `saw_test_sequences` whether it was chosen, or chooses, by test sequences too; never by their targets.
    `stands_for` says what a value was found on ("validated on random rows ...") and, of a protocol that was chosen by
    test sequences, how these differ from it.
    """

    tree: dict[str, Any]
    shown: str
    n_sequences: int
    saw_test_sequences: bool
    stands_for: str

    @property
    def sentence(self) -> str:
        """What a value stands for, as a sentence of its own."""
        return as_sentence(self.stands_for)


def as_sentence(words: str) -> str:
    """The words with a capital letter and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


def find_protocol(
    tree: Mapping[str, Any], task: Task, split: "PreparedSplit", *, recorded: Mapping[str, Any] | None = None
) -> Protocol:
    """The protocol of a config's `validation` for a split; `auto` becomes the one that it chooses.

    `recorded` is what `auto` chose when the study was begun, whatever it would choose now.

    Raises:
        UserError: The split cannot be divided so.
    """
    # As late as this, so that a mistake in the configuration does not wait for NumPy.
    from datasets.validation.auto import Auto, find_facts, resolve
    from datasets.validation.folds import folds_of_split, whole_of
    from datasets.validation.mutational_load import WithoutRise
    from datasets.validation.protocols import n_validated
    from datasets.validation.rounds import Rounds
    from datasets.validation.shifted import Shifted

    validation = build_validation(tree)
    is_auto = isinstance(validation, Auto)
    unlike = ""
    if is_auto:
        facts = find_facts(whole := whole_of(split), task)
        validation = build_validation(recorded) if recorded else resolve(facts, whole, task)
        unlike = facts.unlike(validation)
    if isinstance(validation, Rounds):
        validation = validation.of(split, task)
    folds = folds_of_split(validation, split, task)
    asks_for_shift = is_auto or (isinstance(validation, Shifted) and task.shift is None)
    looks = asks_for_shift or isinstance(validation, WithoutRise)
    return Protocol(
        tree=validation.tree if is_auto or isinstance(validation, Rounds) else dict(tree),
        shown=f"auto: {validation.shown}" if is_auto else validation.shown,
        n_sequences=n_validated(folds),
        saw_test_sequences=looks and (task.wild_type is not None or split.group is not None),
        stands_for="; ".join(filter(None, (validation.stands_for, unlike))),
    )


def with_protocol(config: "StudyConfig", protocol: Protocol) -> "StudyConfig":
    """The study with the protocol in place of its `validation`."""
    return replace(
        config,
        tree={**config.tree, "validation": protocol.tree},
        defaults={**config.defaults, "validation": protocol.tree},
    )


def build_validation(tree: Mapping[str, Any]) -> "Validation":
    """The object that a config's `validation` describes; a UserError if it describes none."""
    checked = targets.check(tree, targets.VALIDATION, "validation")
    validation: Validation = targets.instantiate(checked, targets.VALIDATION, "validation")
    return validation
