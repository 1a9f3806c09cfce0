"""The past rounds of a table played again, in words: `suggest --replay`."""

import argparse
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from search.machine.standard_streams import printable
from search.machine.tables import in_columns
from search.request.replay_request import ReplayRequest

if TYPE_CHECKING:
    from search.suggestion.replays.replayed import Replay


def run_replay(arguments: argparse.Namespace) -> int:
    """Play, and show what each way to pick would have found."""
    request = ReplayRequest(**{field.name: getattr(arguments, field.name) for field in fields(ReplayRequest)})

    from search.suggestion.replays.replay import replay  # heavy: a mistake in the options does not wait for it
    from search.workers.run_alone import Stopped

    try:
        found = replay(request)
    except Stopped as stopped:
        if stopped.exit_status != 1:
            print("Interrupted: nothing was played to its end, and nothing was written.", file=sys.stderr)
        return stopped.exit_status
    if not request.quiet:
        print(printable("\n".join(_lines(request, found))), flush=True)
    return 0


def _lines(request: ReplayRequest, found: "Replay") -> list[str]:
    rows = [["round", "picked by", "known", "to choose from", "picked", "of the best", "share", "highest"]]
    before = ""
    for pick in found.picks:
        is_new, before = pick.round != before, pick.round
        about = [pick.round, f"{pick.known:,}", f"{pick.pool:,}"] if is_new else ["", "", ""]
        n = f"{pick.found:.0f}" if pick.found.is_integer() else f"{pick.found:.1f}"
        of_best = f"{n} of {pick.best:,}"
        rows.append(
            [
                about[0],
                pick.picked_by,
                *about[1:],
                f"{pick.picked:,}",
                of_best,
                f"{pick.share:.2f}",
                f"{pick.highest:.4g}",
            ]
        )
    if len({pick.round for pick in found.picks}) > 1:
        every = enumerate(found.shares.items())
        rows += [["mean" * (not number), name, "", "", "", "", f"{share:.2f}", ""] for number, (name, share) in every]
    lines = [
        in_columns(rows),
        f"Highest values: {found.units}. Of random the mean over all draws is shown.",
        *found.notes,
    ]
    if request.output is not None:
        lines.append(f"Table: {request.output}")
    return lines
