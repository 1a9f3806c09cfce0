"""How many examples Hypothesis makes: enough to find what breaks, and with `make fuzz` many more."""

from hypothesis import settings

FUZZ = "fuzz"
"""The name of the Hypothesis profile of `make fuzz`."""


def examples(n: int) -> int:
    """So many, or ten times as many with `make fuzz`."""
    return 10 * n if settings.get_current_profile_name() == FUZZ else n
