"""Modules of protocols that moved, by the names that configs still have for them; a new one needs no entry.

They stand in the files and databases of users, so they stay what they were when a module moves.
"""

MODULES = {
    "datasets.validation": "datasets.validation.protocols",
    "datasets.shifted": "datasets.validation.shifted",
    "datasets.auto_validation": "datasets.validation.auto",
    "datasets.grouped": "datasets.validation.grouped",
    "datasets.without_rise": "datasets.validation.mutational_load",
    "datasets.whole_training": "datasets.validation.whole_training",
}
"""The module of a `_target_`, and where it is now."""
_NAMES = {place: name for name, place in MODULES.items()}


def target_of(cls: type) -> str:
    """The `_target_` of a class."""
    return f"{_NAMES.get(cls.__module__, cls.__module__)}.{cls.__qualname__}"
