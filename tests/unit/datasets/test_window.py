"""Sequences longer than the limit keep a window of it, with the mutated region inside."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from datasets.batches.datamodule import FitnessData
from datasets.batches.window import LengthLimit, place_windows
from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.crop import Crop, Sites
from datasets.task import Task
from datasets.tasks.flip import AAV_WILD_TYPE, GB1_WILD_TYPE
from datasets.tasks.registry import find_task
from tests.helpers.small_splits import Framed, data_of, split_of, text_of

LETTERS = "ARNDCQEGHILKMFPSTWYV"


def task_of(region: Crop | Sites | None) -> Task:
    crops = {"none": Crop(), "tail": Crop(start=5)}
    return dataclasses.replace(find_task("meltome_mixed"), region=region, crops=crops)


def kept(data: FitnessData) -> list[str]:
    return [text_of(row).rstrip(".") for row in data.tokens.long()]


def regions(data: FitnessData) -> list[str]:
    return [text_of(row[mask]) for row, mask in zip(data.tokens.long(), data.region, strict=True)]


def window(length: int, region: Crop | Sites | None, n_most: int, crop: str = "none") -> tuple[int, int]:
    limit = LengthLimit(max_length=n_most, max_residues=None, truncate=True)
    [first], [last] = place_windows(np.array([length]), task=task_of(region), crop=crop, limit=limit)
    return int(first), int(last)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Crop(start=8, stop=10), (4, 14)),  # four residues on either side
        (Crop(start=8, stop=11), (4, 14)),  # the odd one goes behind it
        (Crop(start=1, stop=3), (0, 10)),
        (Crop(start=17, stop=20), (10, 20)),
        (Crop(start=5, stop=15), (5, 15)),
        (Crop(start=-4, stop=-2), (10, 20)),
        (Sites(positions=(12, 6)), (4, 14)),
        (Sites(positions=(3, 9, 900)), (1, 11)),
        (None, (0, 10)),
    ],
)
def test_a_window_is_centred_on_the_region(region: Crop | Sites | None, expected: tuple[int, int]) -> None:
    assert window(20, region, 10) == expected


def test_every_window_holds_its_region_and_stays_inside_the_crop() -> None:
    for length in range(8, 16):
        for start in range(length):
            for stop in range(start + 1, length + 1):
                for n_most in range(stop - start, 13):
                    first, last = window(length, Crop(start=start, stop=stop), n_most, crop="tail")
                    assert last - first == min(n_most, length - 5)
                    assert 5 <= first <= max(start, 5)
                    assert max(stop, 5) <= last <= length


def test_windows_follow_insertions() -> None:
    longer = AAV_WILD_TYPE[:570] + "W" * 9 + AAV_WILD_TYPE[570:]
    data = data_of(split_of([AAV_WILD_TYPE, longer, longer]), "aav_sampled", crop="none", max_length=60)
    assert kept(data) == [AAV_WILD_TYPE[544:604], longer[548:608], longer[548:608]]
    assert regions(data) == [AAV_WILD_TYPE[560:588], longer[560:597], longer[560:597]]


def test_sites_move_with_the_window_and_the_prefix() -> None:
    split = split_of([GB1_WILD_TYPE, GB1_WILD_TYPE, GB1_WILD_TYPE[:45]])
    for tokenizer in (None, Framed()):
        changes: dict[str, Any] = {} if tokenizer is None else {"tokenizer": tokenizer}
        data = data_of(split, "gb1_sampled", max_length=20, **changes)
        n_framing = 0 if tokenizer is None else 2
        assert data.longest == data.tokens.shape[1] == 20 + n_framing
        residues = ["".join(ALPHABET[t - 1] for t in row[row < 23]) for row in (data.tokens.long())[:2]]
        assert residues == [GB1_WILD_TYPE[36:56]] * 2
        assert regions(data) == ["VDGV", "VDGV", "VDG"]


def test_the_smaller_limit_counts() -> None:
    split = split_of([LETTERS, LETTERS[:3], LETTERS])
    for max_length, max_residues in ((7, 9), (9, 7), (7, None), (None, 7)):
        data = data_of(split, "meltome_mixed", max_length=max_length, max_residues=max_residues)
        assert kept(data) == [LETTERS[:7], LETTERS[:3], LETTERS[:7]]
        assert torch.equal(data.region, data.mask)
        assert data.longest == 7
    assert kept(data_of(split, "meltome_mixed")) == [LETTERS, LETTERS[:3], LETTERS]
    assert kept(data_of(split, "meltome_mixed", max_length=20, truncate=False)) == [LETTERS, LETTERS[:3], LETTERS]


def test_the_window_comes_after_the_crop() -> None:
    split = split_of([GB1_WILD_TYPE, GB1_WILD_TYPE])
    assert kept(data_of(split, "gb1_sampled", max_length=56, truncate=False)) == [GB1_WILD_TYPE[:56]] * 2
    assert kept(data_of(split, "gb1_sampled", crop="none", max_length=56)) == [GB1_WILD_TYPE[18:74]] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_length": 9}, ("the 9 that data.max_length allows", "raise data.max_length")),
        ({"max_residues": 9}, ("the 9 that the model takes", "choose a model that takes more")),
        ({"max_length": 15, "max_residues": 9}, ("the 9 that the model takes", "choose a model")),
    ],
)
def test_a_sequence_that_must_not_be_cut(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        data_of(split_of([LETTERS[:12], LETTERS[:10], "ACD"]), "meltome_mixed", truncate=False, **changes)
    sentence = str(caught.value)
    for part in ("meltome_mixed has 12 residues after the crop 'none'", "data.truncate=true", *words):
        assert part in sentence
    assert "data.crop" not in sentence, "Meltome has nothing to crop to"


def test_cropping_is_a_way_out_where_there_are_crops() -> None:
    with pytest.raises(
        UserError, match=r"has 265 residues after the crop 'none'.*or choose a shorter crop \(data.crop\)"
    ):
        data_of(split_of([GB1_WILD_TYPE] * 2), "gb1_sampled", crop="none", max_length=100, truncate=False)


def test_a_region_that_does_not_fit() -> None:
    longer = AAV_WILD_TYPE[:570] + "WW" + AAV_WILD_TYPE[570:]
    split = split_of([AAV_WILD_TYPE, longer])
    for crop in ("region", "none"):
        assert data_of(split, "aav_sampled", crop=crop, max_length=30).longest == 30
        with pytest.raises(UserError, match=r"spans 30 residues, more than the 29 that data\.max_length allows: raise"):
            data_of(split, "aav_sampled", crop=crop, max_length=29)
    with pytest.raises(UserError, match="spans 16 residues, more than the 15 that the model takes: choose"):
        data_of(split_of([GB1_WILD_TYPE] * 2), "gb1_sampled", max_residues=15)
