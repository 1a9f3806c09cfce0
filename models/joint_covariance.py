"""How what a kernel model believes of several sequences varies together."""

import torch
from torch import Tensor

from datasets.batches.batch import Batch
from models.closed_form import residues
from models.fitness_model import FitnessModel
from models.kernel import Kernel
from models.layers.gaussian_process import Centre


def joint_covariance(model: FitnessModel, batch: Batch) -> Tensor | None:
    """Covariances (B, B) float64 of a kernel's beliefs of B sequences, after training, without noise of measurements.

    They are in units of its own variances: their diagonal is the square of what `predict_with_std` says, but for the
    scale of the targets. All B are held at once with the training sequences. None of another model, and of a kernel
    that sees scores or embeddings beside the sequences.
    """
    if not isinstance(model, Kernel) or model.score_features is not None or model.embedding_features is not None:
        return None
    centre = Centre(mean_distance=model.mean_distance, overall=model.mean_distance.mean())
    before = model.training_side().among(residues(batch), centre, model.theta)
    with_training = torch.cat([covariances for covariances, _ in model.with_training(batch)])
    explained = torch.linalg.solve_triangular(model.factor, with_training.T, upper=False)
    return before.addmm_(explained.T, explained, alpha=-1)
