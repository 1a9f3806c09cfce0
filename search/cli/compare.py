"""The compare command: every study and every confirmed experiment on a task beside what was published."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.common.errors import UserError, nearest
from datasets.common.files import check_output, is_stream, output
from datasets.tasks.registry import task_names
from search.experiments.ledger import Reading, readings
from search.experiments.readings import Readings, find_readings
from search.machine.tables import in_columns
from search.reporting import comparison_figure
from search.reporting.comparison import Comparison, Entry, Panel, by_value, compare, known_tasks
from search.reporting.html import Block, page
from search.reporting.published import PublishedResult, read_published
from search.request.inputs import open_existing
from search.storage.database import Database, say
from search.storage.hide_url import environment_url
from search.storage.url import default_url
from search.study.run_names import COMPARISON
from search.study.snapshot import StudySnapshot
from search.study.study import readable_studies

ALL = "all"
_HEADERS = (
    "task, target and split",
    "model",
    "by",
    "test Spearman",
    "over test sequences",
    "ensemble",
    "validation Spearman",
    "data",
    "source",
)
_APART = "Results on a file that is not FLIP's own cannot be compared with published ones, and stand apart from them."


def run_compare(arguments: argparse.Namespace) -> int:
    """Print the table, write the figure, say where."""
    folder: Path = arguments.output or arguments.runs_dir / COMPARISON
    _check_folder(folder)
    published = () if arguments.published is None else read_published(arguments.published)
    found = readings(arguments.export_dir, _warn)
    database = _database(arguments)
    studies = list(readable_studies(database, _warn)) if database else []
    missing = [] if database else [f"There is no database in {arguments.runs_dir}: name the studies' with --storage."]
    known = find_readings(arguments.export_dir, database, loaded=studies, missing=missing)
    standing = [StudySnapshot.of(study) for study in studies]
    tasks = _tasks(arguments.task, standing, found, published)
    comparisons = [compare(task, standing, found, published) for task in tasks]
    _print(comparisons)
    path = folder / "comparison.html"
    with output(path, makes_folder=True) as file:
        file.write(make_page(comparisons, known))
    written = [path, *_save(comparisons, folder)]
    print(f"Written: {', '.join(map(str, written))}")
    return 0


def _warn(sentence: str) -> None:
    say(f"warning: {sentence}")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot take the figure, before anything is drawn."""
    if is_stream(folder) or (folder.exists() and not folder.is_dir()):
        raise UserError(f"--output {folder} is no folder, and the figure is several files: name a folder.")
    for ending in (".html", ".png", ".svg"):
        check_output(folder / f"comparison{ending}", makes_folder=True)


def make_page(comparisons: Sequence[Comparison], known: Readings) -> str:
    """Figure and table of each task, as one HTML file."""
    return page(
        "comparison.html",
        "FLIP, Flipper and flipsearch",
        comparisons=comparisons,
        known=known,
        draw=_draw,
        headers=_HEADERS[1:],
        rows_of=lambda panel: [_cells("", entry)[1:] for entry in by_value(panel.entries)],
        apart=_APART,
    )


def _draw(panel: Panel) -> Block:
    drawn = comparison_figure.tested(panel)
    return comparison_figure.draw(drawn) if drawn.entries else "No test result yet: confirm an experiment."


def _save(comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """The pictures that could be written."""
    panels = comparison_figure.drawable(comparisons)
    paths = [folder / "comparison.png", folder / "comparison.svg"]
    if not panels:
        print("There is no test result to draw: confirm an experiment first.", file=sys.stderr)
        return []
    try:
        comparison_figure.save(panels, paths)
    except ImportError:
        print("The PNG and the SVG need matplotlib, which is not installed: pip install matplotlib.", file=sys.stderr)
        return []
    return paths


def _tasks(
    names: Sequence[str],
    studies: Sequence[StudySnapshot],
    found: Sequence[Reading],
    published: Sequence[PublishedResult],
) -> list[str]:
    known = known_tasks(studies, found, published)
    for name in names:
        possible = dict.fromkeys([*task_names(), *known])
        if name != ALL and name not in possible:
            raise UserError(f"There is no task {name!r}.{nearest(name, [*possible, ALL])} Or compare --task all.")
    return list(dict.fromkeys(task for name in names for task in (known if name == ALL else [name])))


def _database(arguments: argparse.Namespace) -> Database | None:
    """That of the studies; None where nobody named any and there is none in the runs directory."""
    is_named = arguments.storage or environment_url()
    if not is_named and not Path(default_url(arguments.runs_dir).removeprefix("sqlite:///")).exists():
        return None
    return open_existing(arguments.storage, arguments.runs_dir)


def _cells(title: str, entry: Entry) -> list[str]:
    test = "-" if entry.spearman is None else f"{entry.spearman:.3f}"
    if entry.std is not None:
        test += f" ± {entry.std:.3f}"
    if entry.seeds:
        test += f" ({len(entry.seeds)} seed{'s' * (len(entry.seeds) > 1)})"
    validation = "-" if entry.validation is None else f"{entry.validation:.4f} ({entry.protocol})"
    return [
        title,
        entry.model,
        entry.by,
        test,
        "-" if entry.around is None else f"{entry.around.low:.3f} to {entry.around.high:.3f}",
        "-" if entry.ensemble is None else f"{entry.ensemble:.3f}",
        validation,
        entry.data,
        entry.source,
    ]


def _print(comparisons: Sequence[Comparison]) -> None:
    rows: list[Sequence[str]] = [_HEADERS]
    for comparison in comparisons:
        for panel in comparison.panels:
            rows += [_cells(panel.title, entry) for entry in by_value(panel.entries)]
        if not comparison.panels:
            dashes = ["-"] * (len(_HEADERS) - 2)
            rows.append([comparison.task, *dashes, "nothing published, searched or confirmed yet"])
    print(in_columns(rows))
    if not all(panel.is_comparable for comparison in comparisons for panel in comparison.panels):
        print(_APART)
