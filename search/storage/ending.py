"""How a run or a trial ended: the words that the database holds, and what follows from each.

A trial's `ending` says why it has the state that Optuna knows, COMPLETE, PRUNED or FAIL.
"""

from enum import StrEnum


class Ending(StrEnum):
    """A run's are `complete`, `stopped` and the findings; a trial's are all but `stopped`, which is `pruned` there."""

    COMPLETE = "complete"
    """Trained to its end."""
    STOPPED = "stopped"
    """Told to stop."""
    PRUNED = "pruned"
    DIVERGED = "diverged"
    """Loss or predictions were not finite."""
    CONSTANT = "constant"
    """No epoch's predictions could be ranked."""
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    BUG = "bug"
    """An error of the program, or of the model."""
    REFUSED = "refused"
    """The machine cannot run it, say without its GPU."""
    INTERRUPTED = "interrupted"
    """Ctrl-C, SIGTERM or a full disk: run again, however often."""
    LOST = "lost"
    """Its process died. A failed trial without an ending was lost with its worker, or its lease expired."""
    TRANSIENT = "transient"
    """An error that is the machine's."""

    @property
    def words(self) -> str:
        """`out of memory`."""
        return self.replace("_", " ")

    @property
    def is_infeasible(self) -> bool:
        """Whether the configuration cannot run at all, or not in its time: a constraint; another machine may do it."""
        return self in (Ending.OUT_OF_MEMORY, Ending.TIMEOUT)

    @property
    def is_finding(self) -> bool:
        """Whether it says something of the configuration: PRUNED, and counted as finished."""
        return self.is_infeasible or self in (Ending.DIVERGED, Ending.CONSTANT)

    @property
    def is_lost(self) -> bool:
        """Whether the trial lost its process by the machine's fault: run again a bounded number of times."""
        return self in (Ending.LOST, Ending.TRANSIENT)

    @property
    def is_retried(self) -> bool:
        """Whether a FAIL trial is run again; one that noted a finding lost its worker before it could be told."""
        return self not in (Ending.BUG, Ending.REFUSED)
