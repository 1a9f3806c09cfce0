"""The suggest command: the next plate, and what came of it in words."""

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING

from search.cli.experiments.suggest_several import counted, lines_of_several, unfilled
from search.machine.standard_streams import printable
from search.options.of_suggest import BATCH_UCB
from search.request.suggest_request import SuggestRequest
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, sigterm_raised

if TYPE_CHECKING:
    from search.suggestion.plate import NextPlate


def run_suggest(arguments: argparse.Namespace) -> int:
    """Pick and write the plate; nothing is left of one that did not become whole."""
    # Idle threads of OpenMP would spin and take the cores from those that read; see search.workers.child.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if arguments.replay:
        from search.cli.experiments.replay import run_replay

        return run_replay(arguments)
    request = SuggestRequest(**{field.name: getattr(arguments, field.name) for field in fields(SuggestRequest)})
    started = time.monotonic()
    try:
        with sigterm_raised():
            from search.suggestion.next_plate import next_plate  # torch: a mistake in the options does not wait for it
            from search.suggestion.several import PropertiesPlate
            from search.workers.run_alone import Stopped

            try:
                found = next_plate(request)
            except Stopped as stopped:
                what = "No model was trained, and" if stopped.exit_status == 1 else "Interrupted:"
                print(f"{what} no plate was written.", file=sys.stderr)
                return stopped.exit_status
    except KeyboardInterrupt:
        print("Interrupted: no plate was written.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    if not request.quiet:
        seconds = time.monotonic() - started
        if isinstance(found, PropertiesPlate):
            lines = lines_of_several(request, found, seconds)
        else:
            lines = _lines(request, found, seconds)
        print(printable("\n".join(lines)), flush=True)
    return 0


def _lines(request: SuggestRequest, found: "NextPlate", seconds: float) -> list[str]:
    picked = found.candidates
    left_out = found.n_known + found.n_tested
    lines = [
        f"{found.n_candidates:,} candidates in {seconds:.1f} s; {left_out:,} were measured already and are left out "
        f"({found.n_known:,} in training and validation, {found.n_tested:,} in the test set)."
    ]
    lines += unfilled(request, len(picked), found.n_wanted, found.n_candidates - left_out)
    n_controls, n_plates = len(found.wells) - len(picked), found.wells[-1].plate
    where = f" on {counted(n_plates, 'plate')}" if n_plates else ""
    what = f"{counted(len(picked), 'candidate')} and {counted(n_controls, 'control')}"
    lines.append(f"Picked by {found.acquisition}: {what}{where}.")
    if found.spread_by:
        lines.append(f"Spread out by {found.spread_by}, with a weight of {request.spread_weight:g}.")
    highest = max(well.prediction for well in picked if well.prediction is not None)
    n_outside = sum(bool(well.outside) for well in picked)
    reasons = Counter(reason for well in picked for reason in well.outside.split())
    because = f" ({', '.join(f'{reason}: {n:,}' for reason, n in reasons.most_common())})" * bool(reasons)
    lines += [
        f"Highest prediction {highest:.4g}, best measured {found.best_value:.4g} ({found.units}); {n_outside:,} of "
        f"{len(picked):,} candidates lie outside of what was trained on{because}.",
        found.intervals,
    ]
    # Sums of `batch-ucb` differ by what was picked before them, also of candidates that are all alike.
    is_conditioned = found.acquisition == BATCH_UCB
    worth = (well.prediction if is_conditioned else well.acquisition for well in picked)
    value, n_alike = Counter(worth).most_common(1)[0]
    if n_alike > max(1, len(picked) / 2):
        lines.append(
            f"{n_alike:,} of {len(picked):,} candidates come out alike, at {value:.4g}: the model cannot tell them "
            "apart, and their order means nothing. Name positions that were varied (--mutagenesis sites:...), or "
            "--recombine."
        )
    if request.output is not None:
        lines.append(f"Plate: {request.output} (made of: {request.output.with_suffix('.json')})")
    if request.figure is not None:
        lines.append(f"Figure: {request.figure}")
    return lines
