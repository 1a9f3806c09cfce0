"""What a user writes in twenty minutes: scikit-learn's Gaussian process on one-hot residues, searched by Optuna.

    python plain_kernel.py TABLE DATABASE STUDY --n-trials 100 --seed 0

TABLE (CSV) has the columns sequence, target and fold, the fold that validates a row. `bench_search.py` runs it beside
us.
It searches what the space of our kernel has an equivalent of: length scale, linear part, noise, the targets' ranks,
and, for our relevances, whether the marginal likelihood is maximised from there.
"""

import argparse
import warnings
from pathlib import Path

import joblib  # type: ignore[import-untyped]
import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, spearmanr
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.gaussian_process import GaussianProcessRegressor  # type: ignore[import-untyped]
from sklearn.gaussian_process.kernels import (  # type: ignore[import-untyped]
    RBF,
    ConstantKernel,
    DotProduct,
    WhiteKernel,
)


def main() -> None:
    """Search, and fit the best on all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("database", type=Path)
    parser.add_argument("study")
    parser.add_argument("--n-trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all-columns", action="store_true", help="also those that are the same in all sequences")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    table = pd.read_csv(given.table)
    letters = np.array([list(sequence) for sequence in table["sequence"]])
    one_hot = (letters[:, :, None] == np.unique(letters)).reshape(len(letters), -1).astype(float)
    if not given.all_columns:
        one_hot = one_hot[:, one_hot.std(axis=0) > 0]
    target, fold = table["target"].to_numpy(), table["fold"].to_numpy()
    parts = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in np.unique(fold)]

    def process(trial: optuna.Trial | optuna.trial.FrozenTrial) -> GaussianProcessRegressor:
        # Residues that differ at d positions have a squared distance of 2 d.
        length_scale = trial.suggest_float("length_scale", 0.5, 100.0, log=True) ** 0.5
        linear = ConstantKernel(trial.suggest_float("linear_variance", 1e-4, 1.0, log=True))
        noise = WhiteKernel(trial.suggest_float("noise", 1e-3, 3.0, log=True))
        kernel = ConstantKernel(1.0) * RBF(length_scale) + linear * DotProduct(0.0, "fixed") + noise
        is_fitted = trial.suggest_categorical("fitted", [False, True])
        return GaussianProcessRegressor(kernel, optimizer="fmin_l_bfgs_b" if is_fitted else None, normalize_y=True)

    def learnt(trial: optuna.Trial | optuna.trial.FrozenTrial, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if trial.suggest_categorical("target", ["none", "rank_normal"]) == "none":
            return target[rows]
        return norm.ppf((rankdata(target[rows]) - 0.5) / len(rows))

    def objective(trial: optuna.Trial) -> float:
        predicted = np.empty(len(target))
        for number, (train, validation) in enumerate(parts):
            model = process(trial).fit(one_hot[train], learnt(trial, train))
            predicted[validation] = model.predict(one_hot[validation])
            trial.report(spearmanr(predicted[validation], target[validation]).statistic, step=number + 1)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(spearmanr(predicted, target).statistic)

    study = optuna.create_study(
        study_name=given.study,
        storage=f"sqlite:///{given.database}",
        sampler=optuna.samplers.TPESampler(n_startup_trials=10, seed=given.seed),
        pruner=optuna.pruners.NopPruner(),
        direction="maximize",
    )
    study.enqueue_trial({"length_scale": 8.0, "linear_variance": 0.03, "noise": 0.1, "fitted": False, "target": "none"})
    study.optimize(objective, n_trials=given.n_trials)
    best = process(study.best_trial).fit(one_hot, learnt(study.best_trial, np.arange(len(target))))
    joblib.dump(best, given.database.with_suffix(".joblib"))
    print(f"Best {study.best_value:.4f}: {study.best_params}")


if __name__ == "__main__":
    main()
