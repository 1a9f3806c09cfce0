"""What a user writes in twenty minutes: FLIP's CNN in a plain torch loop, searched by Optuna with Hyperband.

    python plain_cnn.py TABLE DATABASE STUDY --n-trials 20 --seed 0 --threads 2

TABLE (CSV) has the columns sequence, target and fold: 0 validates, -1 trains. `bench_search.py` runs it beside us. The
space, the three learning rates, the patience and the pruner are ours. All sequences have one length, so nothing is
masked, and their one-hot form is made once.
"""

import argparse
import copy
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

PATIENCE = 20
FIRST = {
    "kernel_size": 5,
    "channels": 43,
    "depth": 1,
    "dropout": 0.0,
    "pooling": "max",
    "weight_decay": 0.05,
    "lr_encoder": 1e-3,
    "lr_embedding": 5e-5,
    "lr_decoder": 5e-6,
    "batch_size": 256,
}
"""Flipper's, which our search begins with too."""


class PlainCNN(nn.Module):
    """FLIP's network with a choice of poolings, on one-hot residues (B, letters, L)."""

    def __init__(
        self, n_letters: int, length: int, kernel_size: int, channels: int, depth: int, dropout: float, pooling: str
    ) -> None:
        super().__init__()
        widths = [n_letters] + [channels] * depth
        self.encoder = nn.ModuleList(
            nn.Conv1d(n_in, n_out, kernel_size, padding="same") for n_in, n_out in pairwise(widths)
        )
        self.embedding = nn.Linear(channels, 2 * channels)
        self.attention = nn.Linear(2 * channels, 1)
        self.position = nn.Parameter(torch.randn(length, 2 * channels) / length**0.5)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(2 * channels, 1)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.encoder:
            x = functional.relu(convolution(x))
        x = self.embedding(x.transpose(1, 2))  # (B, L, 2C)
        if self.pooling == "max":
            x = x.amax(dim=1)
        elif self.pooling == "attention":
            x = (x * torch.softmax(self.attention(x), dim=1)).sum(dim=1)
        else:
            x = (x * self.position).sum(dim=1)
        prediction: Tensor = self.decoder(self.dropout(functional.relu(x))).squeeze(1)
        return prediction


def main() -> None:
    """Search, and keep the weights of each trial's best epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("database", type=Path)
    parser.add_argument("study")
    parser.add_argument("--n-trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first", type=json.loads, default=[FIRST], help="configurations to begin with, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    table = pd.read_csv(given.table)
    letters = np.array([list(sequence) for sequence in table["sequence"]])
    one_hot = torch.from_numpy(letters[:, None, :] == np.unique(letters)[:, None]).float()  # (N, letters, L)
    target, is_validation = torch.tensor(table["target"]).float(), torch.tensor(table["fold"] == 0)
    train_x, train_y = one_hot[~is_validation], target[~is_validation]
    validation_x, validation_y = one_hot[is_validation], target[is_validation].numpy()

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(given.seed)
        model = PlainCNN(
            one_hot.shape[1],
            one_hot.shape[2],
            kernel_size=trial.suggest_int("kernel_size", 3, 9, step=2),
            channels=trial.suggest_int("channels", 16, 96, log=True),
            depth=trial.suggest_int("depth", 1, 2),
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
            pooling=trial.suggest_categorical("pooling", ["max", "attention", "position"]),
        )
        decay = trial.suggest_float("weight_decay", 1e-5, 0.1, log=True)
        embedding = [*model.embedding.parameters(), *model.attention.parameters(), model.position]
        optimizer = torch.optim.Adam(
            [
                {"params": model.encoder.parameters(), "lr": trial.suggest_float("lr_encoder", 1e-4, 1e-2, log=True)},
                {
                    "params": embedding,
                    "lr": trial.suggest_float("lr_embedding", 1e-5, 1e-2, log=True),
                    "weight_decay": decay,
                },
                {
                    "params": model.decoder.parameters(),
                    "lr": trial.suggest_float("lr_decoder", 1e-6, 1e-2, log=True),
                    "weight_decay": decay,
                },
            ]
        )
        batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
        best, best_epoch, weights = float("-inf"), 0, model.state_dict()
        for epoch in range(given.max_epochs):
            model.train()
            for rows in torch.randperm(len(train_y)).split(batch_size):
                loss = functional.mse_loss(model(train_x[rows]), train_y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                value = float(spearmanr(model(validation_x).numpy(), validation_y).statistic)
            trial.report(value, step=epoch + 1)
            if value > best:
                best, best_epoch, weights = value, epoch, copy.deepcopy(model.state_dict())
            if trial.should_prune():
                raise optuna.TrialPruned
            if epoch - best_epoch >= PATIENCE:
                break
        torch.save(weights, given.database.with_name(f"trial-{trial.number}.pt"))
        return best

    study = optuna.create_study(
        study_name=given.study,
        storage=f"sqlite:///{given.database}",
        sampler=optuna.samplers.TPESampler(n_startup_trials=10, seed=given.seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=3, max_resource=given.max_epochs, reduction_factor=3),
        direction="maximize",
    )
    for configuration in given.first:
        study.enqueue_trial(configuration)
    study.optimize(objective, n_trials=given.n_trials)
    print(f"Best {study.best_value:.4f}: {study.best_params}")


if __name__ == "__main__":
    main()
