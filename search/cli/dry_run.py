"""`--dry-run`: what a study would do, without training."""

import yaml

from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import task_of
from search.study.config import StudyConfig
from search.study.protocol import Protocol
from search.training.build import build_data, build_model, folds_of
from search.training.trainer import quieten
from search.workers.worker import check_search


def show(config: StudyConfig, name: str, split: PreparedSplit, protocol: Protocol, places: Places) -> int:
    """Print the composed config, the space, and what the first trial would build; returns the exit status."""
    check_search(config)
    params = dict(config.first_trials[0]) if config.first_trials else {}
    run = config.run(params)
    print(f"# study {name}: the composed config")
    print(_yaml({**config.shown_defaults, "sampler": config.sampler, "pruner": config.pruner}))
    print(f"# the space: {len(config.space)} searched values")
    print(_yaml(config.space.tree))
    print("# the first trial")
    print(_yaml(config.space.values(params)))
    quieten()
    folds = folds_of(run, split)
    model = build_model(run)
    model.check_task(task_of(run))
    model.build(places)  # with random weights where pretrained ones would be fetched: it is the shapes that are shown
    data = build_data(run, split, model, folds[0], 0)
    batch = next(iter(data.training_batches()))
    print("# would build")
    print(model)
    if config.is_exact:
        print("Its parameters follow from the training sequences: it is solved once for each fold.")
    else:
        print(f"{model.n_parameters:,} parameters")
    print(
        f"{protocol.shown}: {len(folds)} fold(s); fold 0: {len(folds[0].train)} training and "
        f"{len(folds[0].validation)} validation sequences ({split.label}), "
        f"{len(data.training_batches())} batches of tokens {tuple(batch.tokens.shape)}"
    )
    return 0


def _yaml(tree: object) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)
