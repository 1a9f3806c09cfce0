"""The classes of other packages that a config may name, each with the arguments that it may be given.

What is not listed is refused. No argument listed here names a file or a host, and none is code or an object: a config
may come from somebody else. Classes of our own packages need no list, since their constructors say it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from models.bounds import C_INT, Interval, NonNegativeInt, PositiveFloat, PositiveInt
from search.config.type_checks import Text

SAMPLER = "optuna.samplers.BaseSampler"
PRUNER = "optuna.pruners.BasePruner"
LOGGER = "lightning.pytorch.loggers.Logger"
CALLBACK = "lightning.pytorch.callbacks.Callback"


@dataclass(frozen=True)
class Nested:
    """An argument that is another class of the same base, or null where `is_optional`."""

    is_optional: bool = False


_Million = Annotated[int, Interval(ge=1, limit=1_000_000)]  # so many are held in memory at once
_Share = Annotated[float, Interval(ge=0, le=1)]
_Seed = Annotated[int, Interval(ge=0, limit=2**32 - 1)] | None  # what NumPy takes
_Prefix = Annotated[str, Text(r"[A-Za-z0-9._+-]{0,100}", "up to 100 letters, digits and . _ + -")]
_Name = Annotated[str, Text(r"[A-Za-z0-9_-]{1,100}", "1 to 100 letters, digits, _ and -")]
_OF_INDEPENDENT: Mapping[str, Any] = {
    "independent_sampler": Nested(is_optional=True),
    "warn_independent_sampling": bool,
}
_OF_GENETIC: Mapping[str, Any] = {
    "population_size": _Million,
    "mutation_prob": _Share | None,
    "crossover_prob": _Share,
    "swapping_prob": _Share,
    "seed": _Seed,
}
_OF_PERCENTILE: Mapping[str, Any] = {
    "n_startup_trials": NonNegativeInt,
    "n_warmup_steps": NonNegativeInt,
    "interval_steps": PositiveInt,
    "n_min_trials": PositiveInt,
}
_OF_AVERAGING: Mapping[str, Any] = {"use_buffers": bool}

ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "optuna.samplers.BruteForceSampler": {"seed": _Seed, "avoid_premature_stop": bool},
    "optuna.samplers.CmaEsSampler": {
        "x0": dict[str, float | int | str] | None,
        "sigma0": PositiveFloat | None,
        "n_startup_trials": NonNegativeInt,
        **_OF_INDEPENDENT,
        "seed": _Seed,
        "consider_pruned_trials": bool,
        "restart_strategy": Literal["ipop", "bipop"] | None,
        "popsize": _Million | None,
        "inc_popsize": Annotated[int, Interval(ge=-1, limit=1_000_000)],
        "use_separable_cma": bool,
        "with_margin": bool,
        "lr_adapt": bool,
    },
    "optuna.samplers.GPSampler": {
        "seed": _Seed,
        **_OF_INDEPENDENT,
        "n_startup_trials": NonNegativeInt,
        "deterministic_objective": bool,
    },
    "optuna.samplers.GridSampler": {"search_space": dict, "seed": _Seed},
    "optuna.samplers.NSGAIIISampler": {**_OF_GENETIC, "dividing_parameter": _Million},
    "optuna.samplers.NSGAIISampler": _OF_GENETIC,
    "optuna.samplers.PartialFixedSampler": {"fixed_params": dict, "base_sampler": Nested()},
    "optuna.samplers.QMCSampler": {
        "qmc_type": Literal["sobol", "halton"],
        "scramble": bool,
        "seed": _Seed,
        **_OF_INDEPENDENT,
        "warn_asynchronous_seeding": bool,
    },
    "optuna.samplers.RandomSampler": {"seed": _Seed},
    "optuna.samplers.TPESampler": {
        "consider_prior": bool | None,
        "prior_weight": PositiveFloat | None,
        "consider_magic_clip": bool | None,
        "consider_endpoints": bool | None,
        "n_startup_trials": NonNegativeInt,
        "n_ei_candidates": _Million,
        "seed": _Seed,
        "multivariate": bool | None,
        "group": bool,
        "warn_independent_sampling": bool | None,
        "constant_liar": bool,
    },
    "optuna.pruners.HyperbandPruner": {
        "min_resource": PositiveInt,
        "max_resource": PositiveInt | Literal["auto"],
        "reduction_factor": Annotated[int, Interval(ge=2, limit=C_INT)],
        "bootstrap_count": NonNegativeInt,
    },
    "optuna.pruners.MedianPruner": _OF_PERCENTILE,
    "optuna.pruners.NopPruner": {},
    "optuna.pruners.PatientPruner": {
        "wrapped_pruner": Nested(is_optional=True),
        "patience": NonNegativeInt,
        "min_delta": Annotated[float, Interval(ge=0)],
    },
    "optuna.pruners.PercentilePruner": {"percentile": Annotated[float, Interval(ge=0, le=100)], **_OF_PERCENTILE},
    "optuna.pruners.SuccessiveHalvingPruner": {
        "min_resource": PositiveInt | Literal["auto"],
        "reduction_factor": Annotated[int, Interval(ge=2, limit=C_INT)],
        "min_early_stopping_rate": Annotated[int, Interval(ge=0, limit=1000)],  # an exponent
        "bootstrap_count": NonNegativeInt,
    },
    "optuna.pruners.ThresholdPruner": {
        "lower": float | None,
        "upper": float | None,
        "n_warmup_steps": NonNegativeInt,
        "interval_steps": PositiveInt,
    },
    "optuna.pruners.WilcoxonPruner": {"p_threshold": _Share, "n_startup_steps": NonNegativeInt},
    "search.fold_pruning.FoldPruner": {"epochs": Nested(), "folds": Nested(is_optional=True)},
    "lightning.pytorch.loggers.CSVLogger": {"prefix": _Prefix, "flush_logs_every_n_steps": PositiveInt},
    "lightning.pytorch.loggers.TensorBoardLogger": {
        "prefix": _Prefix,
        "log_graph": bool,
        "default_hp_metric": bool,
        "max_queue": _Million,
        "flush_secs": PositiveInt,
    },
    "lightning.pytorch.loggers.WandbLogger": {"project": _Name},
    "lightning.pytorch.loggers.MLFlowLogger": {"experiment_name": _Name},
    "lightning.pytorch.callbacks.DeviceStatsMonitor": {"cpu_stats": bool | None},
    "lightning.pytorch.callbacks.EMAWeightAveraging": {
        **_OF_AVERAGING,
        "decay": _Share,
        "update_every_n_steps": PositiveInt,
        "update_starting_at_step": NonNegativeInt | None,
        "update_starting_at_epoch": NonNegativeInt | None,
    },
    "lightning.pytorch.callbacks.LearningRateMonitor": {
        "logging_interval": Literal["step", "epoch"] | None,
        "log_momentum": bool,
        "log_weight_decay": bool,
    },
    "lightning.pytorch.callbacks.ModelSummary": {"max_depth": Annotated[int, Interval(ge=-1, le=100)]},
    "lightning.pytorch.callbacks.RichModelSummary": {"max_depth": Annotated[int, Interval(ge=-1, le=100)]},
    "lightning.pytorch.callbacks.StochasticWeightAveraging": {
        "swa_lrs": PositiveFloat | list[PositiveFloat],
        "swa_epoch_start": PositiveInt | _Share,
        "annealing_epochs": PositiveInt,
        "annealing_strategy": Literal["cos", "linear"],
    },
    "lightning.pytorch.callbacks.Timer": {"interval": Literal["step", "epoch"], "verbose": bool},
    "lightning.pytorch.callbacks.WeightAveraging": _OF_AVERAGING,
}

TRACKERS = {"lightning.pytorch.loggers.WandbLogger": "wandb", "lightning.pytorch.loggers.MLFlowLogger": "mlflow"}
"""Loggers that keep trials in another program. Lightning's are not built: a worker tells it of a trial that has ended
(`search.workers.tracking`), parameters and ending included, which a run does not know."""

# They change what is trained; the others only look on. No run takes them; experiments of earlier versions name them.
AVERAGING = ("EMAWeightAveraging", "StochasticWeightAveraging", "WeightAveraging")
LOGGING = ("DeviceStatsMonitor", "LearningRateMonitor")
"""Callbacks that write to the run's logger and to nothing else."""
