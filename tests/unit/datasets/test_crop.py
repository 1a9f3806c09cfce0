"""Crops and regions, as functions of the length of a sequence."""

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.sequences.crop import Crop, Sites
from datasets.tasks.flip import AAV_WILD_TYPE, GB1_WILD_TYPE
from datasets.tasks.registry import find_task

LENGTHS = np.array([10, 12, 3, 0])


def windows(crop: Crop) -> list[tuple[int, int]]:
    starts, stops = crop.window(LENGTHS)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


@pytest.mark.parametrize(("start", "stop"), [(0, None), (2, 5), (4, -4), (-6, -2), (0, 56), (20, 30), (5, 2)])
def test_a_crop_means_what_a_slice_means(start: int, stop: int | None) -> None:
    text = "abcdefghijkl"
    for length, (first, last) in zip(LENGTHS, windows(Crop(start=start, stop=stop)), strict=True):
        assert text[:length][first:last] == text[:length][start:stop]
        assert 0 <= first <= last <= length


def test_masks_are_where_the_windows_are() -> None:
    mask = Crop(start=2, stop=-3).mask(np.array([7, 5]), 8)
    assert mask.astype(int).tolist() == [[0, 0, 1, 1, 0, 0, 0, 0], [0] * 8]
    mask = Sites(positions=(1, 6, 9)).mask(np.array([7, 5]), 8)
    assert mask.astype(int).tolist() == [[0, 1, 0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0, 0]]


def test_extents_reach_from_the_first_to_the_last_position() -> None:
    lengths = np.arange(12)
    for region in (Crop(start=2, stop=-3), Crop(start=4), Sites(positions=(6, 1, 9)), Sites(positions=(0,))):
        starts, stops = region.extent(lengths)
        for row, mask in enumerate(region.mask(lengths, 12)):
            chosen = np.flatnonzero(mask)
            if len(chosen):
                assert (starts[row], stops[row]) == (chosen[0], chosen[-1] + 1)
            else:
                assert starts[row] == stops[row] <= lengths[row]


def test_gb1_domain_and_sites() -> None:
    task = find_task("gb1_two_vs_rest")
    assert task.wild_type == GB1_WILD_TYPE
    assert task.crop(None) == task.crop("domain") == Crop(stop=56)
    assert GB1_WILD_TYPE[:56].endswith("VTE")
    assert isinstance(task.region, Sites)
    assert [f"{GB1_WILD_TYPE[site]}{site + 1}" for site in task.region.positions] == [
        "V39",
        "D40",
        "G41",
        "V54",
    ]


@pytest.mark.parametrize("n_inserted", [0, 1, 15])
def test_aav_region_grows_with_insertions(n_inserted: int) -> None:
    sequence = AAV_WILD_TYPE[:570] + "A" * n_inserted + AAV_WILD_TYPE[570:]
    [start], [stop] = find_task("aav_sampled").crop(None).window(np.array([len(sequence)]))
    region = sequence[start:stop]
    assert region == "DEEEIRTTNP" + "A" * n_inserted + "VATEQYGSVSTNLQRGNR"


def test_a_crop_that_the_dataset_lacks() -> None:
    with pytest.raises(UserError, match="'domain', 'none'"):
        find_task("gb1_sampled").crop("region")
    with pytest.raises(UserError, match=r"'region', 'none'.*Did you mean 'region'"):
        find_task("aav_sampled").crop("regoin")
