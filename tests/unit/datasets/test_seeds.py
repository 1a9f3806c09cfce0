"""Seeds are the same everywhere and different for everything that differs."""

from datasets.common.seeds import derive_seed


def test_pinned() -> None:
    assert derive_seed(0, "order", 0, 0) == 8560917837627009657
    assert derive_seed() == 8203414616412130826
    assert 0 <= derive_seed("anything") < 2**63


def test_parts_types_and_places_count() -> None:
    seeds = [
        derive_seed(1, 23),
        derive_seed(12, 3),
        derive_seed("1", "23"),
        derive_seed("1", 23),
        derive_seed(23, 1),
        derive_seed(1, 23, ""),
        derive_seed(),
    ]
    assert len(set(seeds)) == len(seeds)
