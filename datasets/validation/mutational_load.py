"""`validation=without_rise`: a protocol that also looks at predictions of test sequences, never at their targets."""

from __future__ import annotations

from typing import Any

from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import Fold, Validation


class WithoutRise(Validation):
    """Another protocol, for tests on more mutations than were trained on, which no part of the training data shows.

    Most mutations harm a protein. A configuration whose predictions of test sequences rise with their number of
    mutations takes the small effects of single mutations and adds them up: it ranks by their number. Spearman of
    predictions with the number of mutations may be at most `most`; a configuration beyond it is no better than any
    that is not, whatever its value. Everything else, the value too, is the other protocol's.
    """

    def __init__(self, *, protocol: Validation, most: float) -> None:
        if isinstance(protocol, WithoutRise) or not isinstance(protocol, Validation):
            raise ValueError("protocol has to be another protocol")
        try:
            protocol.n_folds_in_all  # noqa: B018  # raises
        except ValueError:  # of `auto`, and of `rounds` that nobody has counted
            raise ValueError(
                f"protocol is {protocol.shown!r}, whose folds depend on the split: expected one that says how many "
                "there are, such as kfold, or rounds with n_rounds"
            ) from None
        if not -1 <= most <= 1:
            raise ValueError(f"most is {most}, expected between -1 and 1")
        self.protocol = protocol
        self.most = most

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return those of the other protocol."""
        return self.protocol.folds(split, task)

    @property
    def is_of_whole(self) -> bool:
        """As the other protocol."""
        return self.protocol.is_of_whole

    @property
    def judges_selected(self) -> bool:
        """As the other protocol."""
        return self.protocol.judges_selected

    @property
    def n_folds_in_all(self) -> int:
        """Those of the other protocol."""
        return self.protocol.n_folds_in_all

    @property
    def shown(self) -> str:
        """The other protocol and the condition."""
        return f"{self.protocol.shown}, no rise with mutations"

    @property
    def stands_for(self) -> str:
        """What the other protocol's value stands for."""
        return self.protocol.stands_for

    @property
    def tree(self) -> dict[str, Any]:
        """The config that builds this object."""
        return {**super().tree, "protocol": self.protocol.tree}
