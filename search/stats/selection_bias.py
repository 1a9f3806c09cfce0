"""What picking the best of many trials does to its value: trials judged on the same validation sequences.

The values of trials that were judged on the same sequences share most of their noise. How much, their predictions
say (`intervals.z_influence`), and with the noise of all of them drawn again and again it can be seen how far the best
value lies above the truth. The noise is drawn as Student's t with n - 2 degrees of freedom, because its size is
itself estimated from n sequences. Random numbers have a fixed seed: the same trials give the same answer.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from search.stats.intervals import (
    EVERYTHING,
    LEVEL,
    MIN_SEQUENCES,
    ConfidenceInterval,
    Floats,
    around,
    fisher_z,
    half_width,
    influence,
    z_influence,
)

N_DRAWS = 2000
_SEED = 20210704
_NEAR = 4.0  # standard errors of a difference, beyond which a trial is never the best by luck


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedTrials:
    """K trials, of which one was picked because its value is the highest.

    Args:
        values: (K,) their validation Spearman, by which it was picked.
        predictions: (K, n) of the same sequences, none of them constant.
        target: (n,) of these sequences, not constant.
        n: of how many sequences the values are, where `target` holds a random part of them.
        n_unseen: how many trials were candidates besides these; their noise counts as independent.
    """

    values: Floats
    predictions: Floats
    target: Floats
    n: int
    n_unseen: int = 0

    @property
    def best(self) -> int:
        """The one that was picked, the first among equals."""
        return int(np.argmax(self.values))

    @cached_property
    def z(self) -> Floats:
        """Fisher's z (K,) of the values."""
        return fisher_z(self.values, self.n)

    @cached_property
    def _influence(self) -> Floats:
        """The noise of z (K,) is these (K, n) times independent normal numbers."""
        on_z = z_influence(self.values, influence(self.predictions, self.target))
        return on_z * math.sqrt(len(self.target) / self.n)

    @cached_property
    def covariance(self) -> Floats:
        """The covariance (K, K) of the noise of z."""
        covariance: Floats = self._influence @ self._influence.T
        return covariance

    @cached_property
    def noise(self) -> Floats:
        """Draws (`N_DRAWS`, K) of the noise of z."""
        random = np.random.default_rng(_SEED)
        mixing = self._influence
        if mixing.shape[1] > len(mixing):  # factor the K x K covariance: K normals a draw suffice
            eigenvalues, vectors = np.linalg.eigh(self.covariance)
            mixing = vectors * np.sqrt(eigenvalues.clip(min=0))
        draws: Floats = random.standard_normal((N_DRAWS, mixing.shape[1])) @ mixing.T
        return draws / np.sqrt(random.chisquare(self.n - 2, size=(N_DRAWS, 1)) / (self.n - 2))

    def interval(self) -> ConfidenceInterval:
        """The interval of the best trial's true value, whatever it was picked by.

        Its lower end lies below the value by what the noise of none of the trials exceeds (a simultaneous bound). The
        upper end needs no correction: picking the highest value makes it too high, if anything.
        """
        if self.n < MIN_SEQUENCES:
            return EVERYTHING
        error = np.sqrt(np.diag(self.covariance))
        highest = (self.noise / error).max(axis=1)
        if self.n_unseen:
            uniform = np.random.default_rng(_SEED + 1).random(N_DRAWS)
            highest = np.maximum(highest, stdtrit(self.n - 2, uniform ** (1 / self.n_unseen)))
        below = float(np.quantile(highest, (1 + LEVEL) / 2)) * error[self.best]
        return around(self.z[self.best], below, half_width(error[self.best], self.n - 2))

    def is_indistinguishable(self) -> NDArray[np.bool_]:
        """Which trials (K,) may be the truly best: at `LEVEL` the truly best is among them. The best trial is one.

        A trial is left out if another is better than it by more than noise explains, in the differences of the two on
        the same sequences (Hsu 1996, multiple comparisons with the best).
        """
        if self.n < MIN_SEQUENCES:
            return np.ones(len(self.values), dtype=bool)
        is_in = np.ones(len(self.values), dtype=bool)
        for k, mine in enumerate(self.z):
            errors = self._errors_of_differences[k]
            others = errors > 0
            if not (others & (self.z > mine)).any():
                continue
            excess = ((self.z - mine)[others] / errors[others]).max()
            noise = ((self.noise[:, others] - self.noise[:, [k]]) / errors[others]).max(axis=1)
            is_in[k] = excess <= np.quantile(noise, LEVEL)
        return is_in

    def optimism(self) -> float:
        """By how much the best value is expected to lie above the truth, for having been picked.

        The noise of all trials is drawn again around what their true values may be, the best is picked again, and what
        noise adds to its value is averaged. The true values are those observed, drawn together by the part of their
        spread that noise explains (an empirical Bayes estimate), of the trials that come close to the best.
        """
        if self.n < MIN_SEQUENCES:
            return math.nan
        near = (self.z[self.best] - self.z) <= _NEAR * self._errors_of_differences[self.best]
        z, covariance, noise = self.z[near], self.covariance[np.ix_(near, near)], self.noise[:, near]
        spread = float(np.var(z))
        by_noise = float(np.diag(covariance).mean() - covariance.mean())
        truth = z.mean() + (max(0.0, 1 - by_noise / spread) if spread > 0 else 0.0) * (z - z.mean())
        picked = np.argmax(truth + noise, axis=1)
        overstated = np.tanh(truth[picked] + noise[np.arange(N_DRAWS), picked]) - np.tanh(truth[picked])
        return max(0.0, float(overstated.mean()))

    @cached_property
    def _errors_of_differences(self) -> Floats:
        """Standard errors (K, K) of the differences between z; 0 where two trials predict the same."""
        variance = np.diag(self.covariance)
        errors: Floats = np.sqrt((variance[:, None] + variance - 2 * self.covariance).clip(min=0))
        return np.where(errors < 1e-6 * math.sqrt(variance.max()), 0.0, errors)
