"""What overrides make of score columns, embeddings and the space is refused in a sentence, whatever it is."""

from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import ScoreConfig, ScoreSource
from search.study.beside import takes_scores
from search.study.config import study_config

SCORES = ScoreConfig(sources=[ScoreSource(kind="table", file=None, hash="0" * 64, columns=["za", "zb"])], use="all")
EMBEDDINGS = EmbeddingConfig(file="e.npz", hash="0" * 64, kind="residue", width=8)
KERNEL = ["task=gb1_two_vs_rest", "model=kernel", "space=kernel"]


@pytest.mark.parametrize(
    "beside", [{}, {"scores": SCORES, "embeddings": EMBEDDINGS}], ids=["nothing beside", "scores and embeddings"]
)
@pytest.mark.parametrize(
    "override",
    [
        *("scores=null", "~scores", "~scores.use", "scores.use=[za,zb]", "scores.use={a:1}", "scores.use=null"),
        *("++space.with_scores=3", "++space.with_embeddings=3", "++space.model=3", "++first_trials=[{model:3}]"),
    ],
)
def test_what_is_no_part_of_a_config_is_refused(override: str, beside: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        study_config([*KERNEL, override], **beside)


@pytest.mark.parametrize(
    "override",
    [
        *("++space.with_embeddings.residues=3", "++space.with_embeddings.residues=[[3]]"),
        *("++space.with_scores.model=3", "++space.with_scores.model.score_mean=[3]", "++space.with_embeddings.model=3"),
        "++space.with_scores.model.score_mean={type:int,low:1,high:3,when:3}",
    ],
)
def test_a_section_is_refused_as_the_space_is(override: str) -> None:
    with pytest.raises(UserError):
        study_config([*KERNEL, override], scores=SCORES, embeddings=EMBEDDINGS)


def test_which_families_take_scores() -> None:
    some = ["kernel.Kernel", "ridge.Ridge", "forest.Forest", "epistasis.Epistasis", "cnn.CNN"]
    none = ["esm.ESM", "embedding_head.EmbeddingHead"]
    assert [name for name in some + none if takes_scores(f"models.{name}")] == some
    assert takes_scores("own_models.linear.Linear"), "which may read them or not"
