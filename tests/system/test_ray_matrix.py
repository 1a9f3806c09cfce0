"""The fault matrix once more, with the workers in a Ray cluster: the engine changes nothing of what holds."""

import pytest

from tests.helpers.ray_cluster import ENVIRONMENT, NEEDS_RAY
from tests.system.test_matrix import MATRIX, Fleet, checkout, fleet, go_through

pytestmark = [pytest.mark.timeout(1200), NEEDS_RAY]
__all__ = ["checkout", "fleet"]  # fixtures


@pytest.mark.parametrize("name", MATRIX)
def test_the_budget_is_exact_after_a_fault_with_ray(name: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    fleet.engine = ("--engine", "ray", "--address", "local")
    go_through(name, fleet)
