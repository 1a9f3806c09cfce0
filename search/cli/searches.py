"""All that one search command asks for: a study, or one for each model, fold and property."""

import argparse

from datasets.tables.table import ALL_FOLDS
from search.cli.ladder import run_ladder
from search.cli.properties import search_each_property
from search.cli.search import run_search, search_each_fold


def run_searches(arguments: argparse.Namespace) -> int:
    """Search with the one model, or climb the ladder of several: for each property, and for each fold that is test."""
    return search_each_property(arguments, _run_folds) if arguments.properties else _run_folds(arguments)


def _run_folds(arguments: argparse.Namespace) -> int:
    run = run_ladder if arguments.models else run_search
    return search_each_fold(arguments, run) if arguments.test_fold == ALL_FOLDS else run(arguments)
