"""What the ladder ends with: every family's best result and its price, and below it what follows from them."""

from collections.abc import Sequence

from search.machine.tables import in_columns
from search.reporting.ladder_verdict import conclusions
from search.reporting.proposals import Proposals
from search.reporting.rungs import Rung
from search.stats.intervals import ConfidenceInterval


def show(question: str, rungs: Sequence[Rung], *, label: str, protocol: str, proposals: Proposals) -> None:
    """Print the table and the verdict."""
    rows = [
        ["model", "trials", "validation Spearman", "95 % interval", "test Spearman", "over test sequences",
         "GPU-seconds", "CPU-seconds"],
    ]  # fmt: skip
    for rung in rungs:
        rows.append(
            [
                rung.model,
                "-" if rung.n_finished is None else str(rung.n_finished),
                f"- ({rung.why})" if rung.value is None else f"{rung.value:.4f}",
                _bounds(rung.interval),
                _test(rung),
                _bounds(None if rung.tested is None else rung.tested.around),
                "-" if rung.cost is None else f"{rung.cost.gpu_s:,.0f}",
                "-" if rung.cost is None else rung.cost.shown_cpu_s,
            ]
        )
    print(f"\nLadder on {question} (validation: {protocol}; {label})", in_columns(rows), sep="\n")
    print(*conclusions(rungs, proposals), sep="\n", flush=True)


def _bounds(found: ConfidenceInterval | None) -> str:
    return "-" if found is None else f"{found.low:.2f} to {found.high:.2f}"


def _test(rung: Rung) -> str:
    """`0.6492 ± 0.0340 (5 seeds)`: mean and standard deviation over seeds."""
    if rung.tested is None:
        return "-"
    found, n_seeds = rung.tested.spearman, rung.tested.n_seeds
    half = "" if found.std is None else f" ± {found.std:.4f}"
    return f"{found.mean:.4f}{half} ({n_seeds} seed{'s' * (n_seeds > 1)})"
