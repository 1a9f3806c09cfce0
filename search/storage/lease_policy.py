"""How long a worker may be silent before its trial is given to another."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LeasePolicy:
    """The times of leases. All workers of a study have to have the same.

    Args:
        lease_s: Seconds without a heartbeat after which a worker has lost its trial.
        heartbeat_s: Seconds between two heartbeats; several have to fit into a lease. SQLite's clock has whole seconds.
    """

    lease_s: float = 20
    heartbeat_s: float = 4

    def __post_init__(self) -> None:
        """Refuse leases that a live worker would lose."""
        if not 0 < 2 * self.heartbeat_s <= self.lease_s:
            raise ValueError(f"{self} leaves no room for two heartbeats in a lease")

    @property
    def max_clock_difference_s(self) -> float:
        """By how much the clocks of two machines may differ."""
        return self.lease_s / 2


USUAL_LEASE = LeasePolicy()
