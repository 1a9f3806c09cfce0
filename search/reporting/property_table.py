"""What a search of several properties ends with: the study of each, and how to rank candidates by all of them."""

from collections.abc import Sequence
from pathlib import Path

from datasets.common.errors import UserError
from search.experiments.exports import find_export
from search.machine.standard_streams import printable
from search.machine.tables import in_columns
from search.reporting.proposals import Proposals
from search.storage.database import Database
from search.study.snapshot import StudySnapshot
from search.study.study import find_study, shown_validation


def print_properties(
    database: Database, studies: Sequence[tuple[str, str, str]], *, export_dir: Path, proposals: Proposals
) -> None:
    """Print a row for each study, given as (property, model, name), and the commands that rank by all properties.

    Of several families it names the one with the highest validation value.
    """
    rows = [["property", "study", "trials", "validation Spearman", "validation", "exported"]]
    best: dict[str, tuple[float, Path]] = {}
    has_wild_type = True
    for column, _, name in studies:
        try:
            study = find_study(database, name)
        except UserError:  # its search did not come to it
            rows.append([printable(column), name, "-", "-", "-", "-"])
            continue
        now = StudySnapshot.of(study)
        export = find_export(export_dir / f"{name}.yaml", study)
        value = None if now.best is None else float(now.best.value or 0.0)
        rows.append(
            [
                printable(column),
                name,
                str(now.counts.n_finished),
                "-" if value is None else f"{value:.4f}",
                shown_validation(now.attributes) or "-",
                "-" if export is None else str(export),
            ]
        )
        if value is not None and export is not None and (column not in best or value > best[column][0]):
            best[column] = value, export
            has_wild_type &= bool((now.about.get("table") or {}).get("wild_type"))
    print("", in_columns(rows), sep="\n")
    if len(best) == len({column for column, _, _ in studies}):
        exports = [export for _, export in best.values()]
        ranked = ("--input", "candidates.fasta", "--top", "100", "--output", "ranked.csv")
        candidates = ("--recombine",) if has_wild_type else ("--input", "candidates.fasta")
        plate = (*candidates, "--batch", "96", "--controls", "4", "--plate", "96", "--output", "plate.csv")
        print(f"Next: {proposals.command('predict', *exports, *ranked)}")
        print(f"Or: {proposals.command('suggest', *exports, *plate)}", flush=True)
        if len(studies) > len(best):
            print("They name each property's best family: where a ladder above recommends another file, take that.")
