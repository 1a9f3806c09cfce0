"""Predictions of trained models: the config of a run and its weights, without training, search or data."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.batches.encode import Encoded, embedded, encode_sequences, evaluation_loader, longest_first, selected
from datasets.batches.loader import BatchLoader
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.embeddings.store import Embeddings
from datasets.features.frozen import FeatureCache, Features, frozen_features
from datasets.task import Announce
from models.fitness_model import FitnessModel
from search.config.run_config import RunConfig, task_of
from search.training.build import build_model
from search.training.length_limit import limit_of
from search.training.memory import DoesNotFit, eval_tokens, free_memory_bytes, is_out_of_memory, micro_batch_tokens
from search.training.seeding import random_state_kept
from search.training.weights import load_weights

_LIGHT_PARAMETERS = 2**17  # a CNN of some 200 channels: wider layers are worth several cores
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Predictor:
    """The models of one config, a member of an ensemble for each file of weights.

    A prediction does not depend on what it is computed with beyond the last bits of float32, and is bit for bit that
    of a run's validation where the batches are the same.

    Args:
        config: The run that the weights are of; its task says what is cut and cropped of a sequence.
        weights: One file or more, as `search.training.weights` writes them.
        places: Where pretrained weights are found.
        device: None is the GPU if there is one and the config does not rule it out.
        announce: Told of what the user should know, downloads for one.
        micro_batch_tokens: The largest padded part of a batch that the run computed at once, where that is known.
        keep_features: Whether what frozen layers compute is kept in the cache of `places`.

    Attributes:
        backbone: The hash of the pretrained weights, None without any.
        used_scores: The numbers of the score columns that the model sees.

    Raises:
        UserError: Weights are missing, damaged, or of another architecture.
    """

    def __init__(
        self,
        config: RunConfig,
        weights: Sequence[Path],
        *,
        places: Places,
        device: torch.device | None = None,
        announce: Announce = lambda sentence: None,
        micro_batch_tokens: int | None = None,
        keep_features: bool = False,
    ) -> None:
        if not weights:
            raise UserError("There are no weights to predict with: name at least one file of them.")
        self.config = config
        self.task = task_of(config)
        self.device = device or default_device(config)
        self.used_scores = config.scores.used if config.scores else []
        self._precision = config.trainer.precision
        self._batch_size = config.data.batch_size
        self._micro_batch_tokens = micro_batch_tokens
        self._max_eval_tokens: int | None = None
        max_bytes = int(config.cache.max_gb * 2**30) if keep_features else 0
        self._cache = FeatureCache(
            places.cache_dir / ("features" if keep_features else "not kept"), max_bytes=max_bytes
        )
        self._models = [self._build(path, places, announce) for path in weights]
        first = self._models[0]
        self.backbone = first.backbone_hash
        self._tokenizer = first.tokenizer
        self.limit = limit_of(config, first.max_residues)
        self._frozen = first.frozen_part(places, self._precision, self.device)  # the same for all members

    @property
    def n_members(self) -> int:
        """The models of the ensemble."""
        return len(self._models)

    @property
    def models(self) -> tuple[FitnessModel, ...]:
        """Those of the ensemble."""
        return tuple(self._models)

    @property
    def is_light(self) -> bool:
        """Whether a prediction keeps no more than one core and little memory busy, so that several may run at once.

        A model that knows the deviation of what it predicts holds its training data.
        """
        first = self._models[0]
        is_small = first.memory(self._precision) is None and first.n_parameters <= _LIGHT_PARAMETERS
        return self.device.type == "cpu" and is_small and not self.knows_deviation

    @property
    def has_frozen_part(self) -> bool:
        """Whether what is computed for one member serves all: then it is better to ask them together."""
        return self._frozen is not None

    def __call__(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        *,
        scores: NDArray[np.float32] | None = None,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Predict residues (N, L), ASCII codes as the task's `clean` leaves them, zeros behind `lengths` (N,).

        All N are held in memory as tokens: who has very many comes with some thousands at a time. `check` is called
        before each batch; what it raises ends the prediction. `scores` (N, K) are all score columns of the run, NaN
        where one is missing; a run without any, or one whose model sees none, needs none. `embeddings` are those of the
        N sequences, for a model that `sees_embeddings`.

        Returns:
            (n_members, N) float32, in the task's units.

        Raises:
            SequenceError: A sequence is too long for the model, or nothing is left of it; its `row` says which.
            UserError: There is not enough memory for one sequence.
        """
        return self._compute(residues, lengths, lambda model, batch: model(batch), check, scores, embeddings)

    @property
    def sees_embeddings(self) -> bool:
        """Whether the model sees the embeddings of a file."""
        return self._models[0].embedding_scope is not None

    @property
    def knows_deviation(self) -> bool:
        """Whether each member by itself knows the standard deviation of its predictions."""
        return type(self._models[0]).predict_with_std is not FitnessModel.predict_with_std

    def deviation(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        *,
        scores: NDArray[np.float32] | None = None,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Return the members' own standard deviations (n_members, N), where they know them; see `__call__`."""
        return self._compute(residues, lengths, _own_deviation, check, scores, embeddings)

    def encoded(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Encoded:
        """What the models see of residues (N, L) with lengths (N,)."""
        crop, tokenizer = self.config.data.crop, self._tokenizer
        return encode_sequences(residues, lengths, task=self.task, tokenizer=tokenizer, crop=crop, limit=self.limit)

    def _compute(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        of: Callable[[FitnessModel, Batch], Tensor],
        check: Callable[[], None],
        scores: NDArray[np.float32] | None,
        embeddings: Embeddings | None,
    ) -> NDArray[np.float32]:
        if not len(lengths):
            return np.empty((self.n_members, 0), dtype=np.float32)
        encoded = self.encoded(residues, lengths)
        scope = self._models[0].embedding_scope
        if scope is not None and embeddings is not None:
            crop = self.config.data.crop
            features: Features | None = embedded(
                embeddings, residues, lengths, encoded, scope, task=self.task, crop=crop, limit=self.limit
            )
        else:
            features = self._features(encoded)
        if features is not None and features.values is not None:
            features = features.to(self.device)
        n = len(lengths)
        data = Batch(
            tokens=encoded.tokens,
            mask=encoded.mask,
            region=encoded.region,
            target=torch.zeros(n),
            index=torch.arange(n),
            scores=selected(scores, self.used_scores),
        ).to(self.device)
        rows = longest_first(encoded.lengths, np.arange(n))
        predictions = np.empty((self.n_members, n), dtype=np.float32)
        max_tokens = self._tokens_at_once(encoded)
        while True:
            try:
                loader = evaluation_loader(
                    data,
                    encoded.lengths,
                    rows,
                    batch_size=self._batch_size,
                    max_tokens=max_tokens,
                    features=features,
                )
                predictions[:, rows] = self._predict(loader, of, check).numpy()
                return predictions
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            # Outside of the handler, whose traceback would hold on to the tensors.
            longest = int(encoded.lengths.max())
            max_tokens = (max_tokens or min(n, 4 * self._batch_size) * longest) // 2
            if max_tokens < longest:
                raise _too_little_memory(longest, reason)
            self._max_eval_tokens = max_tokens
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _predict(
        self, loader: BatchLoader, of: Callable[[FitnessModel, Batch], Tensor], check: Callable[[], None]
    ) -> Tensor:
        """What `of` gives (n_members, N) on the CPU, in the loader's order."""
        parts = []
        dtype = _AUTOCAST.get(self._precision)
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            for batch in loader:
                check()
                batch = batch.to(self.device)
                parts.append(torch.stack([of(model, batch) for model in self._models]).float())
        return torch.cat(parts, dim=1).cpu()

    def _build(self, path: Path, places: Places, announce: Announce) -> FitnessModel:
        with random_state_kept():  # a notebook that predicts draws on as before
            model = build_model(self.config)
            model.check_task(self.task)
            model.fetch(places, announce)
            model.build(places)  # from the random numbers that the model was made with
            load_weights(model, path)
        return model.to(self.device).eval().requires_grad_(False)

    def _features(self, encoded: Encoded) -> Features | None:
        if self._frozen is None:
            return None
        try:
            return frozen_features(
                self._frozen.encoder,
                encoded.tokens,
                encoded.mask,
                encoded.region,
                scope=self._frozen.scope,
                also=(),
                cache=self._cache,
                announce=lambda sentence: None,
                on_progress=lambda n_done, n_total: None,
            )
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise _too_little_memory(int(encoded.lengths.max()), str(error).splitlines()[0]) from None

    def _tokens_at_once(self, encoded: Encoded) -> int | None:
        """The largest batch, as a run's validation has it; None where the model does not say what it needs."""
        memory = self._models[0].memory(self._precision)
        if memory is None or self._max_eval_tokens is not None:
            return self._max_eval_tokens
        longest = int(encoded.lengths.max())
        tokens = self._micro_batch_tokens
        if tokens is None:
            try:
                free = free_memory_bytes(self.device)
                tokens = micro_batch_tokens(memory, free_bytes=free, longest=longest, batch_size=self._batch_size)
            except DoesNotFit:
                tokens = longest  # too much to train; to predict needs less
        if tokens is not None and tokens >= self._batch_size * longest:
            tokens = None
        return eval_tokens(tokens, longest=longest, batch_size=self._batch_size)


def default_device(config: RunConfig) -> torch.device:
    """The GPU, if there is one and the config may use it."""
    may_use = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if may_use else "cpu")


def _own_deviation(model: FitnessModel, batch: Batch) -> Tensor:
    known = model.predict_with_std(batch)
    assert known is not None
    return known[1]


def _too_little_memory(longest: int, reason: str) -> UserError:
    return UserError(
        f"There is not enough memory to predict a sequence of {longest} tokens ({reason}): free some, or use a larger "
        "machine."
    )
