"""What the default of `suggest` is chosen by: games as of `bench_suggest.py`, with more to choose from.

`python tests/benchmarks/bench_suggest_choice.py tem1 --file FILE --seeds 16 --output FILE.jsonl` plays TEM-1's single
mutants, `... four` synthetic landscapes of four sites (`synthetic_sites.py`, one for each seed), `... report FILE...`
shows what the rule makes of what was played, and `... gb1 --first-seed 0 --seeds 10` plays GB1. A game begins with 96
random variants; four rounds pick 96 more. In each round ten trials of the kernel are searched (its three first ones,
and seven of its space, always the same), five folds each. What differs is

* the models: `folds`, the five of the best trial, as a search leaves them; `whole`, the best trial trained on all that
  was measured; `ensemble`, at most eight of the kernel's and five of ridge's trials, selected and weighted as `combine`
  does it, each trained on all.
* the acquisition: `greedy`; `ucb` with one calibrated deviation, and `ucb2` with two; `ei`, expected improvement; and,
  of a whole kernel and the 2,048 candidates with the highest mean and two deviations, `conditioned`: mean and one
  deviation of the kernel, which is conditioned on each pick before the next one (`search.suggestion.conditioned`, by
  now `batch-ucb` of `suggest`), and `joint`: each pick is the highest of a draw of its own from what the kernel
  believes of all of them together (Thompson sampling).

The rule was written, and committed, before the first of these games, but for one of each pool (seed 0), which said
what a game costs. How many games of TEM-1 there are was lessened while they were played, for lack of time, and before
any share of theirs was looked at:

1. A game's score is the mean of two shares that are among the 480 measured ones in the end: that of the best 1 % of
   the variants, and that of the best 5 %. A variant's score is the mean over TEM-1 and the synthetic landscapes, 12
   games of the one (seeds 100 to 105 and 108 to 113) and 16 of the other (100 to 115), none of which anybody has played
   before. Two are compared game by game: the difference is the mean of the two pools' mean differences, its standard
   error the root of the sum of their squared standard errors, halved.
2. Models, with `greedy`: the best of `whole`, `folds` and `ensemble` is found; of those that are no more than one
   standard error (of their difference from it) behind it, the simplest is taken, in this order: `whole` is one model
   that has seen everything, whatever the validation was; `folds` of a search by rounds or by a holdout has not;
   `ensemble` needs several searches. If `folds` is taken, it is the default where the folds have seen all rows
   together, and `whole` elsewhere. If `ensemble` is taken, the default is what the same rule takes of the other two,
   and the documentation says that an ensemble finds more.
3. Acquisitions, with `whole`: the best is found, and of those no more than one standard error behind it the simplest
   is taken, in the order in which they stand above.
4. Then, and not before, GB1 is played, all variants, seeds 0 to 9, once. Nothing is changed by what comes of it.

What came of it, before GB1 was played: `whole` is taken (0.515; `folds` is 0.002 ± 0.008 above it, `ensemble` 0.500),
and of acquisitions `conditioned` (0.525; `greedy` 0.010 ± 0.009 behind it, the others 0.021 and more). On GB1 it then
found 0.762 of the best 1 %; docs/suggest.md has all of it.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.batches.batch import Batch
from datasets.sequences.codes import joined, padded
from models.fitness_model import FitnessModel
from models.joint_covariance import joint_covariance
from models.kernel import Kernel
from search.experiments.averages import deviation_of, mean_of
from search.experiments.scales import shares_of
from search.stats.calibration import calibrate
from search.stats.greedy_selection import select
from search.suggestion.conditioned import in_turn
from search.suggestion.replays.past import Forecast, among_best, picked
from tests.benchmarks.bench_suggest import (
    BATCH,
    FOLDS,
    ROUNDS,
    drawn_trials,
    first_trials,
    gb1,
    predicted,
    tem1,
    trained,
)
from tests.benchmarks.protocol_choices import spearman
from tests.benchmarks.synthetic_sites import landscape

Floats = NDArray[np.floating[Any]]
TOPS = (0.01, 0.05)
MODELS = ("whole", "folds", "ensemble")
ACQUISITIONS = ("greedy", "ucb", "ucb2", "ei", "conditioned", "joint")
"""Both with the simplest first."""
_PICKED = {"greedy": ("greedy", 0.0), "ucb": ("ucb", 1.0), "ucb2": ("ucb", 2.0), "ei": ("expected-improvement", 0.0)}
VARIANTS = ("folds greedy", *(f"whole {name}" for name in ACQUISITIONS), "ensemble greedy")
_DRAWN = {"kernel": 7, "ridge": 4}
_JOINT_POOL = 2048
_MOST_MEMBERS = 8


@dataclass(eq=False)
class Tried:
    """A trial on what is known: its models of folds, what they predict out of fold (n,), and their deviations (n,)."""

    family: str
    trial: dict[str, Any]
    models: list[FitnessModel]
    out: NDArray[np.float32]
    own: NDArray[np.float32]
    value: float


@dataclass(eq=False)
class Game:
    """A pool of variants with their targets, and the seed of what is random; all variants begin with one search."""

    sequences: Sequence[bytes]
    tokens: Tensor
    target: Tensor
    seed: int
    _at_start: dict[str, list[Tried]] = field(default_factory=dict)

    def play(self, variant: str) -> dict[str, list[float]]:
        """The shares of the best that are measured after the start and after each round, by how many count as best."""
        models, acquisition = variant.split()
        values = self.target.numpy()
        best = {str(top): among_best(values, int(np.ceil(top * len(values)))) for top in TOPS}
        order = np.random.default_rng(self.seed).permutation(len(values))
        known = order[:BATCH]
        shares = {top: [float(found[known].sum() / found.sum())] for top, found in best.items()}
        for number in range(ROUNDS):
            rest = np.setdiff1d(order, known)
            chosen = rest[self._chosen(models, acquisition, known, rest, 1000 * self.seed + number)]
            known = np.concatenate([known, chosen])
            for top, found in best.items():
                shares[top].append(float(found[known].sum() / found.sum()))
        return shares

    def _chosen(
        self, models: str, name: str, known: NDArray[np.int64], rest: NDArray[np.int64], seed: int
    ) -> NDArray[np.int64]:
        """The places in `rest` of the next batch."""
        tried = self._of_family("kernel", known)
        best = max(tried, key=lambda one: one.value)  # of equal ones the first
        measured = self.target[known].numpy()
        if name in ("conditioned", "joint"):
            model = trained(best.family, best.trial, self.tokens[known], self.target[known])
            return jointly_picked(name, model, self.tokens[rest], BATCH, seed)
        if models == "ensemble":
            members, deviation = self._of_ensemble([*tried, *self._of_family("ridge", known)], known, rest)
        else:
            own, fold = best.own if best.family == "kernel" else None, self._fold(known)
            calibration = calibrate(best.out, measured, validated="random", fold=fold, deviation=own)
            assert calibration is not None
            predictors = best.models
            if models == "whole":
                calibration = calibration.pooled()
                predictors = [trained(best.family, best.trial, self.tokens[known], self.target[known])]
            pairs = [predicted(model, self.tokens[rest]) for model in predictors]
            members = np.stack([prediction for prediction, _ in pairs])
            deviation = calibration.deviation(members, None if own is None else np.stack([std for _, std in pairs]))
        forecast = Forecast(
            sequences=[self.sequences[row] for row in rest],
            members=members,
            deviation=deviation,
            best=float(measured.max()),
        )
        acquisition, beta = _PICKED[name]
        return picked(acquisition, forecast, BATCH, beta=beta, seed=seed)

    def _fold(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.random.default_rng([self.seed, len(known)]).permutation(len(known)) % FOLDS
        return found

    def _of_family(self, family: str, known: NDArray[np.int64]) -> list[Tried]:
        if family in self._at_start and len(known) == BATCH:
            return self._at_start[family]
        trials = [*first_trials(family), *drawn_trials(family, _DRAWN[family])]
        found = [self._try(family, trial, known) for trial in trials]
        if len(known) == BATCH:
            self._at_start[family] = found
        return found

    def _try(self, family: str, trial: dict[str, Any], known: NDArray[np.int64]) -> Tried:
        fold = self._fold(known)
        models, out = [], np.empty(len(known), dtype=np.float32)
        own = np.zeros(len(known), dtype=np.float32)
        for number in range(FOLDS):
            training, judged = known[fold != number], known[fold == number]
            models.append(trained(family, trial, self.tokens[training], self.target[training]))
            out[fold == number], deviation = predicted(models[-1], self.tokens[judged])
            own[fold == number] = 0 if deviation is None else deviation
        value = float(spearman(out, self.target[known].numpy()))
        return Tried(family, trial, models, out, own, value if np.isfinite(value) else -1.0)

    def _of_ensemble(
        self, tried: Sequence[Tried], known: NDArray[np.int64], rest: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Floats]:
        """What an ensemble predicts (1, n), and its calibrated deviation (n,)."""
        ordered = sorted(tried, key=lambda one: -one.value)
        measured, outs = self.target[known].numpy(), np.stack([one.out for one in ordered])
        weights = select(outs, measured, most=_MOST_MEMBERS, seed=self.seed).weights
        some = np.flatnonzero(weights)
        weights = weights[some] / weights[some].sum()
        shares, intercept, slope = shares_of(weights, outs[some], measured)

        def together(predictions: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            rows = [(one - share.mean) / share.deviation for one, share in zip(predictions, shares, strict=True)]
            scaled = (intercept + slope * np.stack(rows)).astype(np.float32)
            return mean_of(scaled, weights), deviation_of(scaled, weights)

        out, spread = together(outs[some])
        calibration = calibrate(out, measured, validated="random", deviation=spread)
        assert calibration is not None
        rows = []
        for number in some:
            one = ordered[number]
            model = trained(one.family, one.trial, self.tokens[known], self.target[known])
            rows.append(predicted(model, self.tokens[rest])[0])
        prediction, spread = together(np.stack(rows))
        return prediction[None], calibration.deviation(prediction[None], None if spread is None else spread[None])


def jointly_picked(name: str, model: FitnessModel, tokens: Tensor, n: int, seed: int) -> NDArray[np.int64]:
    """The rows (n,) that `conditioned` or `joint` pick by what a kernel believes, in its own standardised unit."""
    assert isinstance(model, Kernel)
    mean, deviation = _believed(model, tokens)
    rows = np.argsort(-(mean + 2 * deviation), kind="stable")[:_JOINT_POOL]
    with torch.no_grad():
        covariance = joint_covariance(model, _batch(tokens[rows]))
    assert covariance is not None
    matrix, mean = covariance.numpy(), mean[rows]
    if name == "joint":
        chosen: list[int] = []
        is_open = np.ones(len(rows), dtype=np.bool_)
        jitter = 1e-6 * float(matrix.diagonal().max())
        root = np.linalg.cholesky(matrix + jitter * np.eye(len(rows)))
        draws = np.random.default_rng(seed).normal(size=(len(rows), n))
        for column in (root @ draws).T:
            chosen.append(int(np.where(is_open, mean + column, -np.inf).argmax()))
            is_open[chosen[-1]] = False
        return rows[chosen]
    return rows[in_turn(mean, matrix, model.hyperparameters.noise, n)[0]]


def _believed(model: Kernel, tokens: Tensor) -> tuple[Floats, Floats]:
    """Mean and deviation (n,), standardised, whatever became of the targets before."""
    means, deviations = [], []
    with torch.no_grad():
        for covariances, prior in model.with_training(_batch(tokens)):
            explained = torch.linalg.solve_triangular(model.factor, covariances.T, upper=False).square().sum(dim=0)
            means.append((covariances @ model.dual).numpy())
            deviations.append((prior - explained).clamp(min=0).sqrt().numpy())
    return np.concatenate(means), np.concatenate(deviations)


def _batch(tokens: Tensor) -> Batch:
    n, mask = len(tokens), tokens != 0
    return Batch(tokens=tokens, mask=mask, region=mask, target=torch.zeros(n), index=torch.arange(n))


def game_of(pool: str, file: Path | None, seed: int) -> Game:
    """A game on one of the pools."""
    if pool == "four":
        texts, targets = landscape(seed)
    elif pool == "gb1":
        texts, targets = gb1()
    else:
        assert file is not None, "--file names TEM-1's table"
        texts, targets = tem1(file)
    tokens = Kernel(**first_trials("kernel")[0]["model"]).tokenizer.encode(padded(*joined(texts)))[0].long()
    return Game([text.encode() for text in texts], tokens, torch.tensor(targets, dtype=torch.float32), seed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", choices=("tem1", "four", "gb1", "report"))
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--variant", action="append", help="one of those of the rule; all, unless it is given")
    parser.add_argument("--output", type=Path, help="a line for each game is appended")
    arguments = parser.parse_args()
    if arguments.pool == "report":
        report(arguments.results)
        return
    torch.set_num_threads(1)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        game, started = game_of(arguments.pool, arguments.file, seed), time.process_time()
        for variant in arguments.variant or VARIANTS:
            line = json.dumps({"pool": arguments.pool, "seed": seed, "variant": variant, "shares": game.play(variant)})
            print(line, flush=True)
            if arguments.output is not None:
                with arguments.output.open("a") as file:
                    file.write(line + "\n")
        print(f"seed {seed}: {time.process_time() - started:.0f} s", file=sys.stderr, flush=True)


def report(files: Sequence[Path]) -> None:
    """Print the shares of each variant, and what the rule takes."""
    games = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    pools = list(dict.fromkeys(one["pool"] for one in games))
    scores: dict[str, dict[str, dict[int, float]]] = {}
    shares: dict[str, dict[str, list[list[list[float]]]]] = {}
    for one in games:
        own = list(one["shares"].values())
        scores.setdefault(one["variant"], {}).setdefault(one["pool"], {})[one["seed"]] = float(
            np.mean([rows[-1] for rows in own])
        )
        shares.setdefault(one["variant"], {}).setdefault(one["pool"], []).append(own)
    for pool in pools:
        print(
            f"\n{pool:18} games  best 1 % after the start and rounds 1 to {ROUNDS}   best 5 %  score  less folds greedy"
        )
        for variant in shares:
            rows = np.array(shares[variant].get(pool, []))
            if not len(rows):
                continue
            means = " ".join(f"{one:.3f}" for one in rows[:, 0].mean(axis=0))
            less, error = difference(scores, variant, "folds greedy", [pool])
            print(
                f"{variant:18} {len(rows):5}  {means}            {rows[:, 1, -1].mean():.3f}     "
                f"{rows[:, :, -1].mean():.3f}  {less:+.3f} ± {error:.3f}"
            )
    if {"tem1", "four"} <= set(pools):
        models = taken(scores, [f"{name} greedy" for name in MODELS])
        taken(scores, [name for name in (f"{models.split()[0]} {one}" for one in ACQUISITIONS) if name in scores])
        if not models.startswith("whole"):
            taken(scores, [f"whole {name}" for name in ACQUISITIONS])


def difference(
    scores: dict[str, dict[str, dict[int, float]]], one: str, other: str, pools: Sequence[str]
) -> tuple[float, float]:
    """By how much a variant is better than another, game by game, and the standard error of it."""
    means, squares = [], []
    for pool in pools:
        seeds = sorted(scores[one][pool].keys() & scores[other][pool].keys())
        less = np.array([scores[one][pool][seed] - scores[other][pool][seed] for seed in seeds])
        means.append(less.mean())
        squares.append(less.var(ddof=1) / len(less) if len(less) > 1 else np.nan)
    return float(np.mean(means)), float(np.sqrt(np.sum(squares)) / len(pools))


def taken(scores: dict[str, dict[str, dict[int, float]]], variants: Sequence[str]) -> str:
    """Which of some variants, the simplest first, the rule takes; it is printed."""
    pools = ("tem1", "four")
    value = {one: float(np.mean([np.mean(list(scores[one][pool].values())) for pool in pools])) for one in variants}
    best = max(variants, key=lambda one: value[one])
    print(f"\nBoth pools: the best is {best}")
    found = ""
    for one in variants:
        less, error = difference(scores, one, best, pools) if one != best else (0.0, 0.0)
        print(f"{one:18} {value[one]:.3f}  {less:+.3f} ± {error:.3f}")
        if not found and -less <= error:
            found = one
    print(f"Taken: {found}")
    return found


if __name__ == "__main__":
    main()
