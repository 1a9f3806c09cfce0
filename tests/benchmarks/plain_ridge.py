"""What a user writes in twenty minutes: ridge regression on one-hot residues, searched by Optuna.

    python plain_ridge.py TABLE DATABASE STUDY --n-trials 100 --seed 0

TABLE (CSV) has the columns sequence, target and fold, the fold that validates a row. `bench_search.py` runs it beside
us.
"""

import argparse
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]


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

    table = pd.read_csv(given.table)
    letters = np.array([list(sequence) for sequence in table["sequence"]])
    one_hot = (letters[:, :, None] == np.unique(letters)).reshape(len(letters), -1).astype(float)
    if not given.all_columns:
        one_hot = one_hot[:, one_hot.std(axis=0) > 0]
    target, fold = table["target"].to_numpy(), table["fold"].to_numpy()
    parts = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in np.unique(fold)]

    def objective(trial: optuna.Trial) -> float:
        alpha = trial.suggest_float("alpha", 1e-4, 1e4, log=True)
        predicted = np.empty(len(target))
        for number, (train, validation) in enumerate(parts):
            model = Ridge(alpha=alpha).fit(one_hot[train], target[train])
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
    study.enqueue_trial({"alpha": 1.0})
    study.optimize(objective, n_trials=given.n_trials)
    best = Ridge(alpha=study.best_params["alpha"]).fit(one_hot, target)
    np.savez(given.database.with_suffix(".npz"), weight=best.coef_, intercept=best.intercept_)
    print(f"Best {study.best_value:.4f}: {study.best_params}")


if __name__ == "__main__":
    main()
