"""What is kept between runs of one process is what would be computed again, and is bounded."""

import numpy as np
import pytest
import torch

from models.layers import one_hot as module
from models.layers.kept import Kept
from models.layers.one_hot import HammingTo, OneHot
from models.ridge import solve


def counted(kept: Kept, what: str, *of: torch.Tensor, n: int = 4) -> bool:
    """Whether something was computed."""
    calls = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.full((n,), float(len(what)))

    found = kept(what, of, compute)
    assert found.tolist() == [float(len(what))] * n
    return bool(calls)


def test_what_was_computed_of_equal_values_is_found_again() -> None:
    kept, some = Kept(1000), torch.arange(6)
    assert counted(kept, "a", some)
    assert not counted(kept, "a", some.clone())
    assert counted(kept, "ab", some)
    assert counted(kept, "a", some + 1)
    assert counted(kept, "a", some.view(2, 3))
    assert counted(kept, "a", some.int())
    assert counted(kept, "a", some, some)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert counted(kept, "a", some)
    finally:
        torch.set_num_threads(before)


def test_what_was_used_longest_ago_goes_first_and_what_is_too_large_is_not_kept() -> None:
    kept, some = Kept(40), torch.arange(6)  # two of four float32 and a little
    assert counted(kept, "a", some)
    assert counted(kept, "bb", some)
    assert not counted(kept, "a", some)
    assert counted(kept, "ccc", some)
    assert counted(kept, "dddd", some, n=11)
    assert not counted(kept, "a", some)
    assert not counted(kept, "ccc", some)
    assert counted(kept, "bb", some)


@pytest.mark.parametrize("n", [15, 300], ids=["of rows", "of columns"])
def test_a_solution_is_the_same_whatever_was_solved_before(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    tokens, other = (torch.from_numpy(draws.integers(1, 5, (n, 6))) for _ in range(2))
    target, another = torch.from_numpy(draws.normal(size=(2, n)))
    given = [(t, y, alpha) for alpha in (0.1, 10.0) for t in (tokens, other) for y in (target, another)]
    alone = []
    for t, y, alpha in given:
        monkeypatch.setattr(module, "kept", Kept(0))
        alone.append(solve(t, y, alpha, 6))
    monkeypatch.setattr(module, "kept", Kept())
    for found, expected in zip([solve(t, y, alpha, 6) for t, y, alpha in given * 2], alone * 2, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_nobody_changes_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kept", Kept())
    tokens = torch.from_numpy(np.random.default_rng(0).integers(1, 5, (9, 6)))
    columns = torch.ones(6, 6, dtype=torch.bool)
    for compute in (
        OneHot(tokens, columns).gram,
        OneHot(tokens, columns).kernel,
        HammingTo(tokens, 6).among_themselves,
    ):
        before = compute()
        expected = before.clone()
        before += 1
        assert torch.equal(compute(), expected)
