"""What a model gets to see: padded, cropped batches in an order that only (seed, fold, epoch) decide."""

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.tokenizer import ResidueTokenizer, Tokenizer
from datasets.splits.prepared import PreparedSplit
from datasets.tasks.flip import AAV_WILD_TYPE, GB1_WILD_TYPE
from datasets.tasks.registry import find_task
from datasets.validation.protocols import Fold, Holdout
from tests.helpers.data_fixtures import Workplace
from tests.helpers.small_splits import Framed, data_of, rows_of, split_of, text_of
from tests.helpers.split_files import GOOD_ROWS, write_zip


def test_gb1_domain_is_the_first_56_residues() -> None:
    data = data_of(split_of([GB1_WILD_TYPE, GB1_WILD_TYPE[:50], GB1_WILD_TYPE]), "gb1_sampled")
    [batch] = data.train_dataloader()
    by_row = dict(zip(batch.index.tolist(), map(text_of, batch.tokens), strict=True))
    assert by_row == {0: GB1_WILD_TYPE[:56], 1: GB1_WILD_TYPE[:50] + "......"}
    for row, mask, region in zip(batch.index.tolist(), batch.mask, batch.region, strict=True):
        assert mask.tolist() == [True] * (56 if row == 0 else 50) + [False] * (0 if row == 0 else 6)
        assert region.nonzero()[:, 0].tolist() == ([38, 39, 40, 53] if row == 0 else [38, 39, 40])


def test_no_crop_is_the_whole_sequence() -> None:
    [batch] = data_of(split_of([GB1_WILD_TYPE, GB1_WILD_TYPE]), "gb1_sampled", crop="none").train_dataloader()
    assert text_of(batch.tokens[0]) == GB1_WILD_TYPE
    assert batch.region[0].nonzero()[:, 0].tolist() == [38, 39, 40, 53]


def test_aav_region_grows_with_insertions_and_shrinks_with_deletions() -> None:
    sequences = [
        AAV_WILD_TYPE,
        AAV_WILD_TYPE[:570] + "WW" + AAV_WILD_TYPE[570:],
        AAV_WILD_TYPE[:570] + AAV_WILD_TYPE[571:],
    ]
    split = split_of([*sequences, AAV_WILD_TYPE])
    [batch] = data_of(split, "aav_sampled").train_dataloader()
    by_row = dict(zip(batch.index.tolist(), map(text_of, batch.tokens), strict=True))
    region = "DEEEIRTTNPVATEQYGSVSTNLQRGNR"
    assert by_row == {
        0: region + "..",
        1: region[:10] + "WW" + region[10:],
        2: region[:10] + region[11:] + "...",
    }
    assert torch.equal(batch.region, batch.mask)

    [batch] = data_of(split, "aav_sampled", crop="none").train_dataloader()
    assert batch.tokens.shape == (3, 737)
    whole = {
        row: text_of(tokens[mask])
        for row, tokens, mask in zip(batch.index.tolist(), batch.tokens, batch.region, strict=True)
    }
    assert whole == {row: text.replace(".", "") for row, text in by_row.items()}


def test_a_crop_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="'region' leaves nothing of a sequence of 100 residues"):
        data_of(split_of([AAV_WILD_TYPE, AAV_WILD_TYPE[:100]]), "aav_sampled")


def test_the_shared_length_is_that_of_the_longest_sequence_left() -> None:
    [batch] = data_of(split_of(["ACD", "AC", "A"]), "gb1_sampled").train_dataloader()
    assert batch.tokens.shape == (2, 3)


def test_types_and_targets() -> None:
    split = split_of(["ACDEF"] * 11)
    batches = [*data_of(split, "synthetic_two_vs_rest").train_dataloader()]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    for batch in batches:
        assert batch.tokens.dtype == batch.index.dtype == torch.int64
        assert batch.mask.dtype == batch.region.dtype == torch.bool
        assert batch.target.dtype == torch.float32
        assert batch.target.tolist() == batch.index.tolist()
        assert batch.to("cpu") is batch
        assert batch.to("meta").tokens.device.type == "meta"


def test_order_depends_on_seed_fold_and_epoch_only() -> None:
    split = split_of(["ACD"] * 41)

    def order(seed: int, fold_number: int, epoch: int, before: int = 0, batch_size: int = 4) -> list[int]:
        data = data_of(split, "gb1_sampled", seed=seed, fold_number=fold_number, batch_size=batch_size)
        loader = data.train_dataloader()
        for earlier in range(before):
            loader.sampler.set_epoch(earlier)
            assert len([*loader]) == len(loader)
        loader.sampler.set_epoch(epoch)
        torch.manual_seed(before)
        return rows_of(loader)

    reference = order(1, 2, 3)
    assert sorted(reference) == list(range(40))
    assert order(1, 2, 3, before=5) == reference
    assert order(1, 2, 3, batch_size=7) == reference
    others = [order(0, 2, 3), order(1, 0, 3), order(1, 2, 4), order(2, 1, 3), list(range(40))]
    assert reference not in others


def test_validation_is_its_own_rows_in_the_order_of_the_source() -> None:
    data = data_of(split_of(["ACD"] * 20, n_validation=9), "gb1_sampled")
    for _ in range(2):
        assert rows_of(data.val_dataloader()) == list(range(11, 20))
    assert len(data.val_dataloader()) == 1  # its batches are four times as large
    assert len(data.train_dataloader()) == 3
    assert sorted(rows_of(data.train_dataloader())) == list(range(11))


def test_a_fold_is_followed() -> None:
    fold = Fold(train=np.array([1, 3]), validation=np.array([0]))
    data = data_of(split_of(["ACD"] * 20), "gb1_sampled", fold=fold)
    assert sorted(rows_of(data.train_dataloader())) == [1, 3]
    assert rows_of(data.val_dataloader()) == [0]


def test_regions_follow_the_tokens_of_the_tokenizer() -> None:
    tokenizer: Tokenizer = Framed()
    split = split_of([GB1_WILD_TYPE, GB1_WILD_TYPE])
    [batch] = data_of(split, "gb1_sampled", tokenizer=tokenizer).train_dataloader()
    assert batch.tokens.shape == batch.mask.shape == batch.region.shape == (1, 58)
    assert "".join(ALPHABET[token - 1] for token in batch.tokens[batch.region].tolist()) == "VDGV"


class Recorder(pl.LightningModule):
    """Writes down the rows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: dict[int, list[int]] = {}
        self.validated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.trained.setdefault(self.current_epoch, []).extend(batch.index.tolist())
        return self.weight * batch.target.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated.extend(batch.index.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


# Lightning itself uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_lightning_sets_the_epoch(tmp_path: Path) -> None:
    split = split_of(["ACD"] * 20, n_validation=3)
    model = Recorder()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    trainer.fit(model, datamodule=data_of(split, "gb1_sampled"))
    loader = data_of(split, "gb1_sampled").train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        assert model.trained[epoch] == rows_of(loader)
    assert model.trained[0] != model.trained[1] != model.trained[2]
    assert model.validated == [17, 18, 19] * 3


def test_batch_size_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        data_of(split_of(["ACD", "ACD"]), "gb1_sampled", batch_size=0)


def test_tokens_of_every_residue() -> None:
    residues = np.array([[*ALPHABET.encode(), 0, 0]], dtype=np.uint8)
    tokens, mask = ResidueTokenizer().encode(residues)
    assert tokens.tolist() == [[*range(1, 23), 0, 0]]
    assert mask.tolist() == [[True] * 22 + [False] * 2]
    assert ResidueTokenizer.n_tokens == 23


def test_holdout_is_the_splits_own_part(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    [fold] = Holdout().folds(workplace.prepare(), find_task("gb1_two_vs_rest"))
    assert fold.train.tolist() == [0, 1]
    assert fold.validation.tolist() == [2]
    assert fold.train.dtype == fold.validation.dtype == np.int64


@pytest.mark.parametrize(("name", "n_columns", "n_region"), [("gb1_three_vs_rest", 56, 4), ("aav_one_vs_many", 28, 28)])
def test_flips_files(prepare_flip: Callable[[str], PreparedSplit], name: str, n_columns: int, n_region: int) -> None:
    split = prepare_flip(name)
    data = data_of(split, name, batch_size=256)
    batches = [*data.train_dataloader()]
    assert sum(map(len, batches)) == split.n_train
    assert all(batch.tokens.shape[1] >= n_columns for batch in batches)
    if (split.lengths == split.lengths[0]).all():
        assert all(batch.tokens.shape[1] == n_columns for batch in batches)
        assert all((batch.region.sum(1) == n_region).all() for batch in batches)
        wild_type = find_task(name).wild_type
        assert wild_type is not None
        whole = data_of(split, name, crop="none", batch_size=256)
        tokens = torch.cat([batch.tokens for batch in whole.val_dataloader()])
        region = torch.cat([batch.region for batch in whole.val_dataloader()])
        outside = text_of(tokens[0][~region[0]])
        assert outside == "".join(r for r, inside in zip(wild_type, region[0], strict=True) if not inside)
