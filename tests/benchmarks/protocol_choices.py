"""The second half of `bench_protocols.py`: what each protocol and each idea would choose, and what that costs.

`auto` is the rule of the service, except where it follows a split by position or by group: `auto, by the split` does.
The regret of a choice is the best test Spearman among all configurations of a split less that of what was chosen: one
configuration, several whose test ranks are averaged, or an ensemble that is selected as `combine` does. Where a split
can't carry `shifted`, k-fold stands in for it; where holdout says nothing (three sequences), the first configuration is
chosen, the family's default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from search.stats.greedy_selection import EQUAL_SHARE, LEAST_GAIN, Scale, select
from tests.benchmarks.protocol_predictions import FOLDER, PROTOCOLS

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """C configurations of a split; NaN where a number can't be had.

    value, agreement: by protocol (C,), the Spearman of the judged rows, and of the folds' predictions of the same test
        sequences with each other, the mean over pairs.
    n_judged: by protocol, how many rows its value speaks of.
    influence: by protocol (C, n), what each judged row adds to the value, so that the standard error of a difference of
        two values is that of the mean of the differences of their rows.
    rise: (C,) Spearman of the predictions of test sequences, means over the models of k-fold, with their numbers of
        mutations; NaN where all have the same number.
    outside: (C,) how many of the test predictions lie beyond the training targets, a fraction.
    distinct: (C,) how many different values there are among the predictions of test sequences, a fraction.
    ranks: (C, M) of the test predictions. test: (C,) their Spearman with what was measured.
    predicted: (C, M) the test predictions. judged: by protocol the predictions (C, n) of the judged rows, NaN where a
        configuration has none, and their targets (n,).
    follows: the protocol that `auto` takes because test has other positions or groups; empty where it does not.
    """

    family: NDArray[np.str_]
    value: Mapping[str, Values]
    agreement: Mapping[str, Values]
    n_judged: Mapping[str, int]
    influence: Mapping[str, NDArray[np.float32]]
    rise: Values
    outside: Values
    distinct: Values
    ranks: NDArray[np.float32]
    test: Values
    test_target: NDArray[np.float32]
    predicted: NDArray[np.float32]
    judged: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    follows: str = ""

    def of_family(self, family: str) -> "Study":
        """The configurations of one family."""
        kept = self.family == family
        return Study(
            family=self.family[kept],
            value={name: values[kept] for name, values in self.value.items()},
            agreement={name: values[kept] for name, values in self.agreement.items()},
            n_judged=self.n_judged,
            influence={name: values[kept] for name, values in self.influence.items()},
            rise=self.rise[kept],
            outside=self.outside[kept],
            distinct=self.distinct[kept],
            ranks=self.ranks[kept],
            test=self.test[kept],
            test_target=self.test_target,
            predicted=self.predicted[kept],
            judged={name: (predictions[kept], target) for name, (predictions, target) in self.judged.items()},
            follows=self.follows,
        )


def spearman(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Rank correlation, NaN where one of the two is constant or not finite."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0 or not np.isfinite(a).all():  # type: ignore[type-var]
        return float("nan")
    return float(spearmanr(a, b).statistic)


def load_study(task: str, models: Sequence[str]) -> Study:
    """What `protocol_predictions` left of a task, as far as it got; a configuration without test predictions is out."""
    known = np.load(FOLDER / task / "targets.npz")
    target, test_target, mutations = known["target"], known["test_target"], known["test_mutations"]
    rows: list[dict[str, float]] = []
    ranks, family, predicted = [], [], []
    judged: dict[str, tuple[dict[int, NDArray[np.float32]], NDArray[np.float32]]] = {}
    n_judged: dict[str, int] = {}
    influence: dict[str, dict[int, NDArray[np.float32]]] = {name: {} for name in PROTOCOLS}
    for path in sorted(path for model in models for path in (FOLDER / task).glob(f"{model}-*.npz")):
        arrays = dict(np.load(path))
        if not np.isfinite(arrays.get("test", np.array([np.nan]))).all():
            continue
        test = arrays["test"]
        row = {
            "test": spearman(test, test_target),
            "rise": spearman(arrays["kfold_folds"].mean(axis=0), mutations[known["seen_by_folds"]])
            if "kfold_folds" in arrays
            else float("nan"),
            "outside": float(((test < target.min()) | (test > target.max())).mean()),
            "distinct": len(np.unique(test)) / len(test),
        }
        for protocol in PROTOCOLS:
            if f"{protocol}_row" in arrays:
                n_judged[protocol] = len(arrays[f"{protocol}_row"])
                own, own_target = arrays[f"{protocol}_prediction"], target[arrays[f"{protocol}_row"]]
                row[protocol] = spearman(own, own_target)
                influence[protocol][len(rows)] = _influence(own, own_target, row[protocol])
                judged.setdefault(protocol, ({}, own_target))[0][len(rows)] = own
                row[f"{protocol} agreement"] = _agreement(arrays[f"{protocol}_folds"])
        rows.append(row)
        ranks.append((rankdata(test) / len(test)).astype(np.float32))
        family.append(path.stem.partition("-")[0])
        predicted.append(test.astype(np.float32))

    def column(name: str) -> Values:
        return np.array([row.get(name, np.nan) for row in rows])

    return Study(
        family=np.array(family),
        value={name: column(name) for name in PROTOCOLS},
        agreement={name: column(f"{name} agreement") for name in PROTOCOLS},
        n_judged=n_judged,
        influence={
            name: np.array([parts.get(number, np.full(n_judged[name], np.nan)) for number in range(len(rows))])
            for name, parts in influence.items()
            if parts
        },
        rise=column("rise"),
        outside=column("outside"),
        distinct=column("distinct"),
        ranks=np.array(ranks),
        test=np.nan_to_num(column("test")),
        test_target=test_target,
        predicted=np.array(predicted),
        judged={
            name: (
                np.array([of.get(number, np.full(len(own_target), np.nan)) for number in range(len(rows))]),
                own_target,
            )
            for name, (of, own_target) in judged.items()
        },
        follows=next((name for name in ("by_position", "by_group") if str(known.get("auto", "")).startswith(name)), ""),
    )


def _influence(prediction: NDArray[np.float32], target: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    a, b = ((ranks - ranks.mean()) / (ranks.std() or 1.0) for ranks in (rankdata(prediction), rankdata(target)))
    return (a * b - value * (a * a + b * b) / 2).astype(np.float32)


def _agreement(of_folds: NDArray[np.float32]) -> float:
    pairs = [(i, j) for i in range(len(of_folds)) for j in range(i)]
    return float(np.mean([spearman(of_folds[i], of_folds[j]) for i, j in pairs])) if pairs else float("nan")


MOST_RISE, ENOUGH = 0.1, 250  # of the service's rule, datasets.validation.auto
COST = {"ridge": 0, "kernel": 1, "cnn": 2}

Choice = Callable[[Study], NDArray[np.int64]]
"""The configurations that are chosen."""


def best_by(study: Study, score: Values, n: int = 1) -> NDArray[np.int64]:
    """The n configurations of the highest score; the first, which is the default, where no score says anything."""
    return np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")[:n]


def protocol(study: Study, name: str, or_else: str = "kfold") -> NDArray[np.int64]:
    """The best by a protocol."""
    return best_by(study, study.value[name if np.isfinite(study.value[name]).any() or name == "holdout" else or_else])


def mean_rank(study: Study, names: Sequence[str]) -> NDArray[np.int64]:
    """The best mean rank under those of the protocols that the split carries."""
    scores = [study.value[name] for name in names if np.isfinite(study.value[name]).any()]
    return best_by(study, np.mean([rankdata(np.nan_to_num(score, nan=-2)) for score in scores], axis=0))


def agreeing(study: Study, weight: float) -> NDArray[np.int64]:
    """K-fold less a penalty for folds that disagree on test sequences."""
    return best_by(study, study.value["kfold"] - weight * (1 - np.nan_to_num(study.agreement["kfold"], nan=-1)))


def not_collapsed(study: Study, least: float) -> NDArray[np.int64]:
    """K-fold among those whose test predictions have enough different values."""
    return best_by(study, np.where(study.distinct >= least, study.value["kfold"], np.nan))


def plausible(study: Study, most_rise: float | None = None, name: str = "kfold") -> NDArray[np.int64]:
    """Those within one standard error of the best by a protocol, those that rise beyond a limit left out."""
    value = study.value[name]
    if most_rise is not None and (np.nan_to_num(study.rise) <= most_rise).any():
        value = np.where(np.nan_to_num(study.rise) <= most_rise, value, np.nan)
    best = np.nanmax(value)
    error = (1 - best**2) / np.sqrt(study.n_judged[name] - 1)
    return np.flatnonzero(value >= best - error)


def within_error(
    study: Study, score: Callable[[Study, NDArray[np.int64]], Values], most_rise: float | None = None
) -> NDArray[np.int64]:
    """The best by a second score among those that k-fold can't tell from its best."""
    rows = plausible(study, most_rise)
    return rows[[int(np.argmax(score(study, rows)))]]


def consensus(study: Study, rows: NDArray[np.int64]) -> Values:
    """How well each agrees with the mean of all."""
    mean = study.ranks[rows].mean(axis=0)
    return np.array([spearman(study.ranks[row], mean) for row in rows])


def cheapest(study: Study, rows: NDArray[np.int64]) -> Values:
    """The simpler family first, then k-fold: the rule of one standard error, of Breiman and others (1984)."""
    order = np.array([COST[family] for family in study.family[rows]])
    return study.value["kfold"][rows] - 10.0 * order


def auto(study: Study, *, takes_cheapest: bool) -> NDArray[np.int64]:
    """What the service does: holdout with 250 validation sequences or more, k-fold otherwise, without a rise.

    With `takes_cheapest`, which the service leaves to whoever compares studies: the best of the cheapest family with a
    configuration whose difference to the best is within its standard error, both judged on the same sequences.
    """
    name = "holdout" if study.n_judged.get("holdout", 0) >= ENOUGH else "kfold"
    if not (np.nan_to_num(study.rise) <= MOST_RISE).any():
        return best_by(study, -study.rise)
    value = np.where(np.nan_to_num(study.rise) <= MOST_RISE, study.value[name], np.nan)
    if not np.isfinite(value).any():
        return best_by(study, value)
    if not takes_cheapest:
        return best_by(study, value)
    best = int(np.nanargmax(value))
    difference = study.influence[name][best] - study.influence[name]
    error = difference.std(axis=1) / np.sqrt(study.n_judged[name])
    rows = np.flatnonzero(value >= value[best] - error)
    cost = np.array([COST[family] for family in study.family[rows]])
    chosen = rows[cost == cost.min()]
    return chosen[best_by(study, study.value[name][chosen])]


def without_rise(study: Study, n: int = 1, most: float = MOST_RISE) -> NDArray[np.int64]:
    """The best by k-fold among those whose predictions don't rise with the number of mutations over the test set."""
    rise = np.nan_to_num(study.rise)  # all have the same number
    allowed = rise <= most
    score = np.where(allowed, study.value["kfold"], np.nan)
    if not allowed.any():
        return best_by(study, -rise)
    return best_by(study, score, n)[: int(allowed.sum())]


def of_each_family(study: Study, n: int) -> NDArray[np.int64]:
    """The n best of each family by k-fold."""
    rows = [np.flatnonzero(study.family == family) for family in np.unique(study.family)]
    return np.concatenate([of[best_by(study, study.value["kfold"][of], n)] for of in rows])


Standard = Literal["validation", "test", "ranks"]
"""By which predictions members are standardised before they are averaged, or that their ranks among test are."""


def ensemble(
    study: Study,
    *,
    standard: Standard = "test",
    scale: Scale = "standardized",
    most: int = 8,
    least_gain: float = LEAST_GAIN,
    n_repeats: int = 10,
    equal_share: float = EQUAL_SHARE,
) -> Values:
    """What the ensemble of `search.stats.greedy_selection` predicts of test (M,), among what `auto` lets take part."""
    name = study.follows or ("holdout" if study.n_judged.get("holdout", 0) >= ENOUGH else "kfold")
    allowed = np.isfinite(study.value[name]) & (np.nan_to_num(study.rise) <= MOST_RISE)
    if not allowed.any():
        return study.ranks[best_by(study, -study.rise)[0]].astype(np.float64)
    rows = best_by(study, np.where(allowed, study.value[name], np.nan), int(allowed.sum()))
    predictions, target = study.judged[name]
    own = predictions[rows].astype(np.float64)
    how = {"most": most, "least_gain": least_gain, "n_repeats": n_repeats, "equal_share": equal_share}
    found = select(own, target, seed=0, scale=scale, **how)  # type: ignore[arg-type]
    kept = np.flatnonzero(found.weights)
    if standard == "ranks":
        return np.asarray(found.weights[kept] @ study.ranks[rows[kept]].astype(np.float64))
    test = study.predicted[rows[kept]].astype(np.float64)
    of = test if standard == "test" else own[kept]
    mean, deviation = of.mean(axis=1, keepdims=True), of.std(axis=1, keepdims=True)
    return np.asarray(found.weights[kept] @ ((test - mean) / np.where(deviation > 0, deviation, 1)))


ENSEMBLES: Mapping[str, Callable[[Study], Values]] = {
    **{
        f"{words}, standardised by {standard}": partial(ensemble, standard=standard, equal_share=share)
        for standard in ("validation", "test", "ranks")
        for words, share in (("ensemble of 8: greedy", 0.0), ("half greedy, half equal", 0.5), ("8 best, equal", 1.0))
    },
    "half greedy of ranks, half equal, by test": partial(ensemble, scale="ranks"),
    "half greedy, half equal, of 4, by test": partial(ensemble, most=4),
    "half greedy, half equal, of 16, by test": partial(ensemble, most=16),
    "half greedy to gains of 0.002, half equal, by test": partial(ensemble, least_gain=0.002),
    "half greedy to the last round, half equal, by test": partial(ensemble, least_gain=-np.inf),
    "half greedy, half equal, one division, by test": partial(ensemble, n_repeats=1),
    "quarter equal, by test": partial(ensemble, equal_share=0.25),
    "three quarters equal, by test": partial(ensemble, equal_share=0.75),
}
"""Every rule that was tried."""


CHOICES: Mapping[str, Choice] = {
    "holdout": partial(protocol, name="holdout"),
    "kfold": partial(protocol, name="kfold"),
    "shifted, else kfold": partial(protocol, name="shifted"),
    "by position": partial(protocol, name="by_position"),
    "mean rank of kfold and shifted": partial(mean_rank, names=("kfold", "shifted")),
    "mean rank of kfold and by position": partial(mean_rank, names=("kfold", "by_position")),
    "mean rank of all four": partial(mean_rank, names=tuple(PROTOCOLS)),
    "kfold - 0.2 disagreement on test sequences": partial(agreeing, weight=0.2),
    "kfold - disagreement on test sequences": partial(agreeing, weight=1.0),
    "kfold, not collapsed on test sequences": partial(not_collapsed, least=0.5),
    "1 SE of kfold, then consensus": partial(within_error, score=consensus),
    "1 SE of kfold, then agreement of folds": partial(
        within_error, score=lambda study, rows: study.agreement["kfold"][rows]
    ),
    "1 SE of kfold, then least outside range": partial(within_error, score=lambda study, rows: -study.outside[rows]),
    "kfold, rise at most 0.1": without_rise,
    "kfold, rise at most 0": partial(without_rise, most=0.0),
    "kfold, rise at most 0.2": partial(without_rise, most=0.2),
    "kfold, rise at most 0.4": partial(without_rise, most=0.4),
    "1 SE of kfold, then the cheapest family": partial(within_error, score=cheapest),
    "rise at most 0.1, 1 SE, then consensus": partial(within_error, score=consensus, most_rise=MOST_RISE),
    "rise at most 0.1, 1 SE, then agreement": partial(
        within_error, score=lambda study, rows: study.agreement["kfold"][rows], most_rise=MOST_RISE
    ),
    "rise at most 0.1, 1 SE, then the cheapest": partial(within_error, score=cheapest, most_rise=MOST_RISE),
    "rise at most 0.1, 1 SE, least outside range": partial(
        within_error, score=lambda study, rows: -study.outside[rows], most_rise=MOST_RISE
    ),
    "rise at most 0.1, all within 1 SE averaged": partial(plausible, most_rise=MOST_RISE),
    "by group": partial(protocol, name="by_group"),
    "auto": partial(auto, takes_cheapest=False),
    "auto, by the split": lambda study: (
        protocol(study, study.follows) if study.follows else auto(study, takes_cheapest=False)
    ),
    "auto, then the cheapest family": partial(auto, takes_cheapest=True),
    "5 best by kfold averaged": lambda study: best_by(study, study.value["kfold"], 5),
    "10 best by kfold averaged": lambda study: best_by(study, study.value["kfold"], 10),
    "all within 1 SE of kfold averaged": plausible,
    "best of each family averaged": partial(of_each_family, n=1),
    "3 best of each family averaged": partial(of_each_family, n=3),
    "rise at most 0.1, 5 best averaged": partial(without_rise, n=5),
    "rise at most 0.1, 10 best averaged": partial(without_rise, n=10),
}


def regret(study: Study, chosen: NDArray[np.int64]) -> float:
    """What a choice loses to the best single configuration; below 0 where an average beats it.

    Predictions that are all the same rank nothing, and count as 0.
    """
    return loss(study, study.ranks[chosen].mean(axis=0))


def loss(study: Study, prediction: NDArray[np.generic]) -> float:
    """What a prediction of test (M,) loses to the best single configuration."""
    return float(study.test.max()) - float(np.nan_to_num(spearman(prediction, study.test_target)))


def regrets(studies: Mapping[str, Study]) -> dict[str, list[float]]:
    """By choice, on each split."""
    of_one = {name: [regret(study, choose(study)) for study in studies.values()] for name, choose in CHOICES.items()}
    of_many = {name: [loss(study, make(study)) for study in studies.values()] for name, make in ENSEMBLES.items()}
    return {**of_one, **of_many}


def leave_one_out(table: Mapping[str, Sequence[float]]) -> list[tuple[str, float]]:
    """On each split what the choice with the least mean regret on all other splits loses, and its name."""
    n_splits = len(next(iter(table.values())))
    found = []
    for left_out in range(n_splits):
        others = [split for split in range(n_splits) if split != left_out]
        best = min(table, key=lambda name: float(np.mean([table[name][split] for split in others])))
        found.append((best, table[best][left_out]))
    return found


def show(tasks: Sequence[str], models: Sequence[str]) -> None:
    """Print the tables."""
    studies = {task: load_study(task, models) for task in tasks if (FOLDER / task / "targets.npz").exists()}
    rises(studies)
    families = [family for family in models if all((study.family == family).any() for study in studies.values())]
    for what, parts in (
        ("all families", studies),
        *((family, {task: study.of_family(family) for task, study in studies.items()}) for family in families),
    ):
        print(f"\n{what}: regret by split")
        _line("", [task.replace("_vs_", "/") for task in parts])
        _line("configurations", [str(len(study.test)) for study in parts.values()])
        _line("best in study", [f"{study.test.max():.3f}" for study in parts.values()])
        _line("median in study", [f"{np.median(study.test):.3f}" for study in parts.values()])
        table = regrets(parts)
        for name, row in table.items():
            _line(name, [f"{value:.3f}" for value in (*row, np.mean(row), max(row))])
        left_out = leave_one_out(table)
        _line("(chosen on the other splits)", [f"{value:.3f}" for _, value in left_out])
        print("   ", "; ".join(f"{task}: {name}" for task, (name, _) in zip(parts, left_out, strict=True)))


def rises(studies: Mapping[str, Study]) -> None:
    """Print how many configurations of each family rise with mutations, and what the others reach."""
    for task, study in studies.items():
        for family in dict.fromkeys(study.family.tolist()):
            part = study.of_family(family)
            rising = np.nan_to_num(part.rise) > MOST_RISE
            if rising.any():
                others = f"{np.median(part.test[~rising]):.3f}" if not rising.all() else "-"
                print(
                    f"{task} {family}: {rising.sum()} of {len(rising)} rise; median test Spearman "
                    f"{np.median(part.test[rising]):.3f}, of the others {others}"
                )


def _line(name: str, cells: Sequence[str]) -> None:
    print(f"{name:45}" + "".join(f"{cell:>16}" for cell in cells))
