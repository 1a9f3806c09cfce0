"""All that one search command asks for: a study, or one for each model, fold and property."""

import argparse
from collections.abc import Callable
from functools import partial

from datasets.tables.table import ALL_FOLDS


def run_searches(arguments: argparse.Namespace) -> int:
    """Search with the one model, or climb the ladder of several: for each property, and for each fold that is test."""
    if not arguments.dry_run:
        from search.workers.child import prepare_children

        prepare_children()  # first of all: torch and Lightning load for longer than all else takes before a trial
    from search.cli.ladder import run_ladder  # these while they do
    from search.cli.properties import search_each_property
    from search.cli.search import run_search, search_each_fold

    is_one_of_several = bool(arguments.properties) or arguments.test_fold == ALL_FOLDS
    alone = partial(run_search, is_one_of_several=is_one_of_several)
    run: Callable[[argparse.Namespace], int] = run_ladder if arguments.models else alone

    def run_folds(own: argparse.Namespace) -> int:
        return search_each_fold(own, run) if own.test_fold == ALL_FOLDS else run(own)

    return search_each_property(arguments, run_folds) if arguments.properties else run_folds(arguments)
