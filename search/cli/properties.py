"""A search of several properties: one study each, or one for each family, all divided alike, and a table at the end."""

import argparse
import time
from collections.abc import Callable

from datasets.common.errors import UserError
from datasets.tables.table import ALL_FOLDS
from search.cli.search import request_of, search_in_turn
from search.machine.standard_streams import announcer, printable
from search.reporting.proposals import Proposals
from search.request.inputs import check_writable, load_split, open_existing
from search.request.search_request import DataOptions
from search.request.user_data import config_of, user_data
from search.request.user_table import refuse_two_splits, survey_of
from search.study.names import default_name, property_name
from search.study.protocol import find_protocol


def search_each_property(arguments: argparse.Namespace, search_one: Callable[[argparse.Namespace], int]) -> int:
    """Search each `--target-column` as it is searched alone, but for its rows, which are divided alike for all.

    `--n-trials` is of each study, `--timeout` of the whole call. The exit status is the highest of the searches'.

    Args:
        arguments: Those of the command line, with several properties.
        search_one: The search of one.

    Raises:
        UserError: What one of the properties has is not what a search accepts; nothing is searched then.
    """
    started, announce = time.monotonic(), announcer(arguments.quiet)
    own = [_of_property(arguments, name) for name in arguments.properties]
    studies: list[tuple[str, str, str]] = []
    for one in own:
        try:
            studies += _checked(one)
        except UserError as error:
            raise UserError(f"Of the properties asked for, {printable(one.target_column)}: {error}") from None
    from search.reporting.property_table import print_properties  # now: whoever updates the checkout changes nothing

    parts = [(one, str(one.target_column), f"Property {one.target_column} (--target-column)") for one in own]
    status, is_whole = search_in_turn(parts, search_one, started=started, announce=announce)
    has_table = not (arguments.quiet or arguments.dry_run or arguments.test_fold == ALL_FOLDS)  # the folds have theirs
    if is_whole and has_table:
        database = open_existing(arguments.storage, arguments.runs_dir)
        print_properties(database, studies, export_dir=arguments.export_dir, proposals=Proposals.of(arguments))
    return status


def _of_property(arguments: argparse.Namespace, name: str) -> argparse.Namespace:
    """The arguments of the search of one property alone."""
    given = arguments.study_name
    study = None if given is None else f"{given}-{property_name(name)}"
    return argparse.Namespace(**{**vars(arguments), "target_column": name, "study_name": study})


def _checked(arguments: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The studies of a property, as (property, model, name).

    Raises:
        UserError: The table is not what a search of this property accepts, or cannot be divided as is asked.
    """
    column, models = arguments.target_column, arguments.models or (arguments.model,)
    one_fold = None if arguments.test_fold == ALL_FOLDS else arguments.test_fold
    found = survey_of(arguments.data, DataOptions.of(arguments, test_fold=one_fold))
    found.findings.raise_refused()
    refuse_two_splits(found)
    named = arguments.study_name
    if named is None:
        names = [default_name(arguments.task, one, found.table.settings, arguments.data.name) for one in models]
    else:
        names = [f"{named}-{one}" if arguments.models else named for one in models]
    if arguments.test_fold != ALL_FOLDS:
        _check_folds(argparse.Namespace(**{**vars(arguments), "model": models[0], "study_name": names[0]}))
    return [(column, model, name) for model, name in zip(models, names, strict=True)]


def _check_folds(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be validated."""
    request = request_of(arguments)
    data = user_data(request, request.task, request.runs_dir, lambda sentence: None, request.words)
    config = config_of(request.words, data)
    check_writable(request.runs_dir)
    split = load_split(
        data.task, request.data_dir, request.runs_dir, lambda sentence: None, weights_dir=request.weights_dir
    )
    find_protocol(config.defaults["validation"], data.task, split)
