"""The confirm command: experiments over new seeds on the test set, in words or as JSON."""

import argparse
import json
from dataclasses import fields

from search.confirmation import confirm
from search.experiments.confirm.all_folds import AllFolds
from search.experiments.confirm.view import as_json, print_confirmation
from search.request.confirm_request import ConfirmRequest
from search.workers.run_alone import Stopped


def run_confirm(arguments: argparse.Namespace) -> int:
    """Confirm experiments and show what came of it; of all folds of a table, their mean too."""
    given = {field.name: getattr(arguments, field.name) for field in fields(ConfirmRequest)}
    request = ConfirmRequest(**{**given, "quiet": arguments.quiet or arguments.json})
    try:
        found = confirm(request, tell=lambda *one: None if request.quiet else print_confirmation(*one))
    except Stopped as stopped:
        return stopped.exit_status
    if arguments.all_folds:
        every = AllFolds.of(found)
        if arguments.json:
            print(json.dumps(every.json, indent=2, allow_nan=False))
        elif not request.quiet:
            every.print()
    elif arguments.json:
        objects = [as_json(*one) for one in found]
        print(json.dumps(objects[0] if len(objects) == 1 else objects, indent=2, allow_nan=False))
    return 0
