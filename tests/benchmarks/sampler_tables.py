"""The second half of bench_samplers.py: what the studies of each problem took, and what the rules say of it."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.sampler_problems import N_RANDOM, Problem
from tests.benchmarks.sampler_runs import N_MOST, PRUNERS, SAMPLERS, WITH_TPE, Reached, read

N_ORDERS = 1000


def show(folder: Path, problems: Sequence[str], n_seeds: int) -> None:
    """Print the tables of what is there."""
    drawn = [problem for name in problems if (problem := Problem(name, folder)).is_drawn]
    missing = [name for name in problems if name not in {problem.name for problem in drawn}]
    studies = {problem.name: read(folder, problem.name) for problem in drawn}
    print(
        f"Median trials until 99 % of the best of {N_RANDOM} random configurations ({n_seeds} seeds; - : not all run)"
    )
    _samplers(drawn, studies, n_seeds)
    with_epochs = [problem for problem in drawn if not problem.config.is_exact]
    for sampler, names in (("tpe", (*WITH_TPE, "nop")), ("random", tuple(PRUNERS))):
        print(f"\nMedian epochs until that value, with {sampler}")
        n = n_seeds if sampler == "tpe" else 10 * n_seeds
        _table(with_epochs, names, _medians(studies, n, lambda one: _epochs(one, studies), sampler))
    if missing:
        print(f"\nNot run: {', '.join(missing)}")


def _samplers(drawn: Sequence[Problem], studies: dict[str, list[Reached]], n_seeds: int) -> None:
    medians = _medians(studies, n_seeds, lambda one: one.n_trials or N_MOST)
    for problem in drawn:
        medians["random", problem.name] = statistics.median(random_trials(problem).tolist())
    _table(drawn, (*SAMPLERS, "random"), medians)
    print("CPU seconds for a question, up to the target:")
    for sampler in SAMPLERS:
        asked = [one for ones in studies.values() for one in ones if one.sampler == sampler and one.pruner == "nop"]
        if asked:
            print(f"  {sampler:8} {sum(one.ask_s for one in asked) / sum(one.n_asked for one in asked):.3f}")


def random_trials(problem: Problem) -> NDArray[np.int64]:
    """The number of the first trial (`N_ORDERS`,) that reaches the target, the first trials of the family first."""
    first = [problem.train(problem.config.space.values(params)) for params in problem.config.first_trials]
    for number, trained in enumerate(first, 1):
        if problem.is_reached_by(trained):
            return np.full(N_ORDERS, number)
    hits = np.array([problem.is_reached_by(one) for one in problem.random])
    generator = np.random.default_rng(0)
    return np.array([np.argmax(generator.permutation(hits)) + 1 + len(first) for _ in range(N_ORDERS)])


def _epochs(one: Reached, studies: dict[str, list[Reached]]) -> int:
    """Those of a study; one that did not get there counts as the longest that was seen of its problem."""
    if one.n_trials is not None:
        return one.n_epochs
    return max(other.n_epochs for other in studies[one.problem])


def _medians(
    studies: dict[str, list[Reached]], n_seeds: int, measure: Callable[[Reached], int], of_sampler: str | None = None
) -> dict[tuple[str, str], float]:
    """By sampler (or, of one sampler, pruner) and problem, where all seeds are there."""
    found: dict[tuple[str, str], list[int]] = {}
    for name, ones in studies.items():
        for one in ones:
            if one.seed < n_seeds:
                if of_sampler is None and one.pruner == "nop" and one.sampler in SAMPLERS:
                    found.setdefault((one.sampler, name), []).append(measure(one))
                elif one.sampler == of_sampler:
                    found.setdefault((one.pruner, name), []).append(measure(one))
    return {key: statistics.median(values) for key, values in found.items() if len(values) >= n_seeds}


def _table(problems: Sequence[Problem], columns: Sequence[str], medians: dict[tuple[str, str], float]) -> None:
    width = max(map(len, columns), default=0) + 2
    print(f"{'':34}{'target':>8}" + "".join(f"{column:>{width}}" for column in columns))
    complete = []
    for problem in problems:
        known = [medians.get((column, problem.name)) for column in columns]
        cells = "".join(f"{'-' if value is None else f'{value:g}':>{width}}" for value in known)
        print(f"{problem.name:34}{problem.target:>8.4f}{cells}")
        if None not in known:
            complete.append([float(value or 0) for value in known])
    if complete:
        means = [math.exp(statistics.fmean(map(math.log, column))) for column in zip(*complete, strict=True)]
        label = f"geometric mean of {len(complete)}"
        print(f"{label:42}" + "".join(f"{mean:>{width}.1f}" for mean in means))
