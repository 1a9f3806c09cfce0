"""What a candidate is worth as a measurement: acquisition functions of predictions and their calibrated deviations.

greedy: the prediction. ucb: the prediction and `beta` deviations (Srinivas, Krause, Kakade and Seeger 2010, "Gaussian
process optimization in the bandit setting"). thompson: a draw (Thompson 1933), each candidate's own: what one of the
models predicts, drawn by its weight (Osband and Van Roy 2015, "Bootstrapped Thompson sampling and deep exploration":
the models of folds stand for those of bootstraps); of a single model, from the normal distribution around its
prediction. expected-improvement: by how much the measurement is expected to exceed the best one (Jones, Schonlau and
Welch 1998, "Efficient global optimization"), as its logarithm, which orders candidates also where the value itself
underflows (Ament, Daulton, Eriksson, Balandat and Bakshy 2023).
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtri

Floats = NDArray[np.floating[Any]]
_LEAST = 1e-30  # of a deviation, so that nothing is divided by zero
_FAR = -1e4  # deviations below the best, from where on an expansion is as exact as it can be
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


def asks_deviation(name: str, n_models: int) -> bool:
    """Whether an acquisition needs the calibrated deviation of predictions of so many models."""
    return name in ("ucb", "expected-improvement") or (name == "thompson" and n_models == 1)


def acquired(
    name: str,
    prediction: Floats,
    deviation: Floats | None = None,
    *,
    beta: float = 1.0,
    best: float = 0.0,
    members: Floats | None = None,
    weights: Floats | None = None,
    draws: Floats | None = None,
) -> NDArray[np.float64]:
    """What each of n candidates is worth (n,); the higher, the sooner it is picked.

    Args:
        name: One of `search.options.of_suggest.ACQUISITIONS`.
        prediction: (n,), in the assay's unit.
        deviation: (n,), of measurements around it, likewise; where `asks_deviation` says so.
        beta: Of `ucb`.
        best: Of `expected-improvement`: the best measured value.
        members: (n_models, n), what each model predicts, of `thompson`.
        weights: (n_models,), what each counts; None: all the same.
        draws: (n,) between 0 and 1, of `thompson`; see `uniform_draws`.
    """
    value = prediction.astype(np.float64)
    if name == "greedy":
        return value
    if name == "thompson":
        assert draws is not None
        if members is not None and len(members) > 1:
            shares = np.full(len(members), 1 / len(members)) if weights is None else weights
            model = np.searchsorted(np.cumsum(shares)[:-1], draws, side="right")
            return members[model, np.arange(len(value))].astype(np.float64)
        assert deviation is not None
        return value + deviation * ndtri(draws)
    assert deviation is not None, "whoever asks for another one has it"
    if name == "ucb":
        return value + beta * deviation
    size = np.maximum(deviation.astype(np.float64), _LEAST)
    found: NDArray[np.float64] = np.log(size) + _log_improvement((value - best) / size)
    return found


def uniform_draws(sequences: Iterable[bytes], seed: int, of: str = "") -> NDArray[np.float64]:
    """A number (n,) between 0 and 1 for each sequence: the same for the same seed, whatever stands beside it.

    `of` names what is drawn, where a sequence has several draws.
    """
    key = f"thompson {seed}".encode() if not of else hashlib.blake2b(f"{seed} {of}".encode(), digest_size=32).digest()
    digests = (hashlib.blake2b(one, digest_size=8, key=key).digest() for one in sequences)
    numbers = np.frombuffer(b"".join(digests), dtype="<u8")
    return (numbers >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53


def _log_improvement(z: Floats) -> NDArray[np.float64]:
    """log(z P(z) + p(z)) of a standard normal distribution P with the density p."""
    found = np.empty(len(z), dtype=np.float64)
    far, high = z < _FAR, z > 0
    middle = ~far & ~high
    found[far] = -0.5 * z[far] ** 2 - _LOG_ROOT_2PI - 2 * np.log(-z[far])
    below = z[middle]
    ratio = np.sqrt(np.pi / 2) * erfcx(-below / np.sqrt(2))  # P over p
    found[middle] = -0.5 * below**2 - _LOG_ROOT_2PI + np.log1p(below * ratio)
    above = z[high]
    density = np.exp(-0.5 * above**2 - _LOG_ROOT_2PI)
    found[high] = np.log(above + density * (1 - above * np.sqrt(np.pi / 2) * erfcx(above / np.sqrt(2))))
    return found
