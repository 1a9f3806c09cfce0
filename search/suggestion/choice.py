"""By what a batch is picked: what is asked, and what the models can answer."""

from datasets.common.errors import UserError
from search.experiments.trained import TrainedExperiment
from search.options.of_suggest import BATCH_UCB
from search.prediction.intervals import check_intervals
from search.request.suggest_request import MOST_TOGETHER, SuggestRequest
from search.suggestion.acquisition import asks_deviation
from search.suggestion.conditioned import can_condition, is_of_kernel

GREEDY = "greedy"


def check_choice(request: SuggestRequest, trained: TrainedExperiment) -> None:
    """Refuse before models are trained what they could not answer, or without errors on validated rows. A UserError."""
    if request.acquisition == BATCH_UCB and request.trains and not is_of_kernel(trained):
        raise _no_kernel(request, trained)
    check_intervals(trained, request.level, None)
    if trained.calibration is None and asks_deviation(request.acquisition or GREEDY, trained.n_members):
        raise UserError(
            f"--acquisition {request.acquisition} needs the errors on validated rows, which {trained.path} does not "
            "hold: export it with this version, or take greedy."
        )
    if trained.calibration is None and request.figure is not None:
        raise UserError(
            f"--figure shows predictions against the errors on validated rows, which {trained.path} does not hold: "
            "export it with this version, or leave the figure out."
        )


def check_diversity(request: SuggestRequest, trained: TrainedExperiment) -> None:
    """Refuse to count mutations at positions where there is no wild type. Raises a UserError."""
    if request.max_per_position is not None and trained.task.wild_type is None:
        raise UserError(
            f"--max-per-position counts mutations of a wild type, and {trained.task.name} has none: leave it out, or "
            "keep candidates apart with --min-distance."
        )


def acquisition_of(request: SuggestRequest, trained: TrainedExperiment) -> str:
    """The acquisition that is asked for; where none is, `batch-ucb` if the models can, or else `greedy`.

    Raises:
        UserError: The models cannot.
    """
    if request.acquisition is None:
        is_alone = request.spread_weight is None and request.batch <= MOST_TOGETHER and request.train is not False
        return BATCH_UCB if is_alone and can_condition(trained) else GREEDY
    if request.acquisition == BATCH_UCB and not can_condition(trained):
        raise _no_kernel(request, trained)
    return request.acquisition


def _no_kernel(request: SuggestRequest, trained: TrainedExperiment) -> UserError:
    how_many = "1 model" if trained.n_members == 1 else f"{trained.n_members} models"
    return UserError(
        f"--acquisition batch-ucb is of a single kernel that sees sequences alone, and {trained.path} picks by "
        f"{how_many}, which is not that: take ucb{', or leave --no-train out' * (request.train is False)}."
    )
