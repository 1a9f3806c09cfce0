"""What the ladder ends with: every family's best result and its price, and below it what follows from them."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from search.reporting.ladder_verdict import conclusions
from search.reporting.proposals import Proposals
from search.reporting.rungs import Rung
from search.stats.intervals import ConfidenceInterval


def show(question: str, rungs: Sequence[Rung], *, label: str, protocol: str, proposals: Proposals) -> None:
    """Print the table and the verdict."""
    console = Console(highlight=False, soft_wrap=True, markup=False, width=1000)
    console.print(f"\nLadder on {question} (validation: {protocol}; {label})")
    table = Table(
        "model", "trials", "validation Spearman", "95 % interval", "test Spearman", "over test sequences",
        "GPU-seconds", "CPU-seconds", box=None, pad_edge=False,
    )  # fmt: skip
    for rung in rungs:
        table.add_row(
            rung.model,
            "-" if rung.n_finished is None else str(rung.n_finished),
            f"- ({rung.why})" if rung.value is None else f"{rung.value:.4f}",
            _bounds(rung.interval),
            _test(rung),
            _bounds(None if rung.tested is None else rung.tested.around),
            "-" if rung.cost is None else f"{rung.cost.gpu_s:,.0f}",
            "-" if rung.cost is None else rung.cost.shown_cpu_s,
        )
    console.print(table)
    for paragraph in conclusions(rungs, proposals):
        console.print(paragraph)


def _bounds(found: ConfidenceInterval | None) -> str:
    return "-" if found is None else f"{found.low:.2f} to {found.high:.2f}"


def _test(rung: Rung) -> str:
    """`0.6492 ± 0.0340 (5 seeds)`: mean and standard deviation over seeds."""
    if rung.tested is None:
        return "-"
    found, n_seeds = rung.tested.spearman, rung.tested.n_seeds
    half = "" if found.std is None else f" ± {found.std:.4f}"
    return f"{found.mean:.4f}{half} ({n_seeds} seed{'s' * (n_seeds > 1)})"
