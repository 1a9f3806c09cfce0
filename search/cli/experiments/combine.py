"""The combine command: an ensemble of configurations of studies, as one experiment, in words."""

import argparse
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from search.request.combine_request import CombineRequest
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, sigterm_raised

if TYPE_CHECKING:
    from search.combination import Combination


def run_combine(arguments: argparse.Namespace) -> int:
    """Make the ensemble and say what came of it."""
    request = CombineRequest(**{field.name: getattr(arguments, field.name) for field in fields(CombineRequest)})

    from search.workers.run_alone import Stopped  # heavy: a mistake in the options does not wait for it

    try:
        found = make_ensemble(request)
    except Stopped as stopped:
        return stopped.exit_status
    if not request.quiet:
        print("\n".join(_lines(request, found)), flush=True)
    return 0


def make_ensemble(request: CombineRequest, *, deadline: float | None = None) -> "Combination":
    """As `search.combination.combine`, which a signal ends cleanly wherever it is.

    Raises:
        search.workers.run_alone.Stopped: A signal came, the time was over, or a run failed.
    """
    from search.combination import combine
    from search.workers.run_alone import Stopped

    try:
        with sigterm_raised():
            return combine(request, deadline=deadline)
    except KeyboardInterrupt:
        print("Interrupted: the ensemble was not made.", file=sys.stderr)
        raise Stopped(EXIT_INTERRUPTED) from None
    except Terminated:
        raise Stopped(EXIT_TERMINATED) from None


def _lines(request: CombineRequest, found: "Combination") -> list[str]:
    from search.machine.tables import in_columns
    from search.reporting.proposals import Proposals

    ensemble = found.ensemble
    origins, members = ensemble.origins, ensemble.members
    rows = [["member", "study", "trial", "weight", "validation Spearman alone"]]
    for number, member in enumerate(members):
        own = member.experiment.provenance
        rows.append([str(number), own.study, str(own.trial), f"{member.share.weight:.3f}", f"{own.value:.4f}"])
    n = f"{len(members)} member{'s' * (len(members) > 1)}"
    lines = [
        f"Ensemble {request.export}: {n}, selected from {found.n_candidates} configuration"
        f"{'s' * (found.n_candidates > 1)} of {', '.join(origins.studies)}",
        in_columns(rows),
        f"Out-of-bag validation Spearman {origins.value:.4f} ({members[0].experiment.provenance.protocol}, "
        f"{origins.n_sequences:,} sequences; {found.label}), corrected for the selection",
    ]
    if found.interval is not None:
        lines.append(f"95 % interval: {found.interval.low:.2f} to {found.interval.high:.2f}")
    lines += [
        f"The best configuration alone has {found.best:.4f}, not corrected for having been picked.",
        f"Exported: {found.path}",
        f"Next: {Proposals.of(request).command('verify', found.path)}",
    ]
    return lines
