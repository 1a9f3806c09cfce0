"""What a search over all folds of a table ends with: the study of each fold, and how to confirm them together."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from datasets.common.errors import UserError
from search.experiments.exports import find_export
from search.machine.tables import in_columns
from search.reporting.proposals import Proposals
from search.storage.database import Database
from search.study.snapshot import StudySnapshot
from search.study.study import find_study, shown_validation


def print_folds(
    database: Database, studies: Sequence[tuple[str, str, str]], *, export_dir: Path, proposals: Proposals
) -> None:
    """Print a row for each study, given as (fold, model, name), and the commands that confirm a family's."""
    families = list(dict.fromkeys(model for _, model, _ in studies))
    rows = [["fold", "study", "trials", "validation Spearman", "validation", "exported"]]
    values: dict[str, list[float]] = {model: [] for model in families}
    exported: dict[str, list[str]] = {model: [] for model in families}
    for fold, model, name in studies:
        try:
            study = find_study(database, name)
        except UserError:  # its search did not come to it
            rows.append([fold, name, "-", "-", "-", "-"])
            continue
        now = StudySnapshot.of(study)
        export = find_export(export_dir / f"{name}.yaml", study)
        value = "-" if now.best is None else f"{now.best.value:.4f}"
        place = "-" if export is None else str(export)
        rows.append([fold, name, str(now.counts.n_finished), value, shown_validation(now.attributes) or "-", place])
        if now.best is not None and export is not None:
            values[model].append(float(now.best.value or 0.0))
            exported[model].append(place)
    print("", in_columns(rows), sep="\n")
    n_folds = len(studies) // len(families)
    for model in families:
        if len(exported[model]) < n_folds:
            continue
        own = "" if len(families) == 1 else f" of {model}"
        print(f"Mean validation Spearman{own} over {n_folds} folds: {statistics.fmean(values[model]):.4f}")
        print(f"Next: {proposals.command('confirm', '--all-folds', *exported[model])}")
    if len(families) > 1:
        print("Choose a family by its validation values: each that is confirmed reads every fold's test set once more.")
