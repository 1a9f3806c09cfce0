"""Decision trees on residue properties: forests, and boosted trees, grown by scikit-learn."""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.common.errors import TooManyRows
from models.bounds import C_INT, MAX_FOREST_ROWS, Interval, PositiveFloat, PositiveInt
from models.closed_form import ClosedForm, residues
from models.layers.mutation_features import MutationFeatures
from models.layers.score_features import ScoreFeatures
from models.layers.trees import Trees

_PER_BRANCH = 1000  # multiply-adds take as long as a row at a branch, whose place in the order is looked for


class Forest(ClosedForm):
    """Trees on what is known of a variant's mutations: it ranks variants at positions that training never saw.

    The features are those of `MutationFeatures`, and score columns where there are any (missing ones at their mean,
    with an indicator). scikit-learn grows the trees; a checkpoint holds their nodes as arrays, from which they are
    evaluated without it.

    Args:
        kind: `random_forest` (Breiman 2001), `extra_trees` (Geurts et al. 2006) or `boosting` (histogram-based).
        n_trees: how many.
        max_features: the share of the features that each branch chooses from.
        min_samples_leaf: training rows in a leaf, at least.
        learning_rate: of boosting: the share of each tree that counts.
        max_leaves: of each tree in boosting; the trees of forests grow until their leaves are small.
        max_train: train on this many random rows of a larger training set; None takes all, up to 100,000.
    """

    def __init__(
        self,
        *,
        kind: Literal["random_forest", "extra_trees", "boosting"],
        n_trees: Annotated[int, Interval(ge=1, limit=10_000)],
        max_features: Annotated[float, Interval(gt=0, le=1)],
        min_samples_leaf: PositiveInt,
        learning_rate: PositiveFloat,
        max_leaves: Annotated[int, Interval(ge=2, limit=10_000)],
        max_train: Annotated[int, Interval(ge=2, limit=C_INT)] | None = None,  # as it was before there was a limit
    ) -> None:
        super().__init__()
        self.kind = kind
        self.n_trees = n_trees
        self.max_features = max_features
        self.min_samples_leaf = min_samples_leaf
        self.learning_rate = learning_rate
        self.max_leaves = max_leaves
        self.max_rows = max_train
        self.random_state = int(torch.randint(2**31 - 1, ()))  # follows from the run's seed, as weights do
        self.mutations = MutationFeatures(has_gaps=self.has_gaps)
        self.scores: ScoreFeatures | None = None
        self.trees = Trees()

    @property
    def n_parameters(self) -> int:
        """A number for each node: the threshold of a branch or the value of a leaf."""
        return len(self.trees.number)

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """Each row passes a branch of each tree in each level."""
        n_rows = min(n_rows, self.max_rows or n_rows)
        return self.n_trees * n_rows * n_rows.bit_length() * _PER_BRANCH

    def check_size(self, n_train: int) -> None:
        """Refuse more training rows than 300 trees grow on within hours and a few GiB, unless a part is asked for."""
        if self.max_rows is None and n_train > MAX_FOREST_ROWS:
            raise TooManyRows(
                f"The forest model takes at most {MAX_FOREST_ROWS:,} training sequences by itself, here are "
                f"{n_train:,}: set model.max_train={MAX_FOREST_ROWS} to train on that many random ones, or choose "
                "another model."
            )

    def take_scores(self) -> None:
        """Grow trees on score columns as well."""
        self.scores = ScoreFeatures()

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        prediction: Tensor = self.trees(self._features(residues(batch), batch.scores))
        return prediction.float()

    def solve(
        self,
        tokens: Tensor,
        target: Tensor,
        scores: Tensor | None = None,
        embeddings: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Grow the trees; there are no embeddings."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

        self.mutations.fit(tokens)
        if self.scores is not None:
            self.scores.fit(scores)
        features = self._features(tokens, scores).cpu().numpy()
        with threadpool_limits(torch.get_num_threads(), user_api="openmp"):
            known = {} if weight is None else {"sample_weight": weight.cpu().numpy()}
            grown = self._regressor().fit(features, target.cpu().numpy(), **known)
        if self.kind == "boosting":
            self.trees.take_boosting(grown)
        else:
            self.trees.take_forest(grown)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """As for other models; no branch of a tree leads back, or looks at a feature that there is not."""
        super().load_trained_state(state)
        self.mutations.check()
        n_scores = 0 if self.scores is None else self.scores.n_features
        self.trees.check(self.mutations.n_features + n_scores)

    def _features(self, tokens: Tensor, scores: Tensor | None) -> Tensor:
        """(B, F) float32 of tokens (B, L) and scores (B, K)."""
        features: Tensor = self.mutations(tokens)
        of_scores = None if self.scores is None else self.scores(scores)
        return features if of_scores is None else torch.cat([features, of_scores.float()], dim=1)

    def _regressor(self) -> Any:
        from sklearn import ensemble  # type: ignore[import-untyped]  # here: it takes a while, and most runs have none

        if self.kind == "boosting":
            return ensemble.HistGradientBoostingRegressor(
                max_iter=self.n_trees,
                max_features=self.max_features,
                min_samples_leaf=self.min_samples_leaf,
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.max_leaves,
                early_stopping=False,
                random_state=self.random_state,
            )
        cls = ensemble.RandomForestRegressor if self.kind == "random_forest" else ensemble.ExtraTreesRegressor
        return cls(
            self.n_trees,
            max_features=self.max_features,
            min_samples_leaf=self.min_samples_leaf,
            n_jobs=torch.get_num_threads(),
            random_state=self.random_state,
        )
