"""The parser of every command, and the options that several commands share; the standard library alone."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from datasets.common.errors import UserError, nearest
from datasets.tables.table import CENSORED, REPLICATES, STOPS, STRATEGIES
from datasets.tasks.registry import listed_tasks
from search.checkout import STUDIES
from search.machine import own_models
from search.options.folders import DEFAULTS, FILE, VARIABLES, option
from search.options.values import artifact_place, count, position, positive


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, with the nearest flags for an unknown one."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(message[:1].upper() + message[1:] + f" (see `{self.prog} --help`).")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after the help, once it is written."""
        if sys.stdout is not None:
            sys.stdout.flush()
        super().exit(status, message)

    def refuse_unknown(self, unknown: Sequence[str]) -> None:
        """Refuse flags that are not known."""
        if unknown:
            name = unknown[0].partition("=")[0]
            raise UserError(f"{name} is not an option of `{self.prog}`.{nearest(name, self.flags)} See --help.")

    @property
    def flags(self) -> list[str]:
        """Every option, as it is written."""
        return [flag for action in self._actions for flag in action.option_strings]


def model_names() -> list[str]:
    """The models of the checkout: the files of the config group."""
    return sorted(path.stem for path in (STUDIES / "model").glob("*.yaml"))


LADDER = ("ridge", "kernel", "forest", "epistasis", "cnn", "esm")
"""What `--model ladder` stands for, the cheap ones first."""


def add_what(parser: Parser, *, has_ladder: bool = False) -> None:
    """What is predicted, by what."""
    parser.add_argument("--task", help="what to predict: " + listed_tasks())
    names = ", ".join(model_names())
    if has_ladder:
        several = f"may be repeated, for one study each; ladder: {', '.join(LADDER)}, and baselines"
        parser.add_argument("--model", action="append", help=f"the model family: {names}; {several}")
    else:
        parser.add_argument("--model", help=f"the model family: {names}")


class Once(argparse.Action):
    """Takes one value: a second, other one is refused instead of counting alone."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Take the value."""
        before = getattr(namespace, self.dest)
        if before not in (None, values):
            raise UserError(
                f"{self.option_strings[0]} is given twice, as {str(before)!r} and as {str(values)!r}: give it once."
            )
        setattr(namespace, self.dest, values)


class OneProperty(argparse.Action):
    """Takes a target column; repeated, each names a property, and `properties` are all of them in their order."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Take the value."""
        first = getattr(namespace, self.dest)
        known = namespace.properties or ((first,) if first is not None else ())
        found = tuple(dict.fromkeys((*known, values)))
        setattr(namespace, self.dest, found[0])
        namespace.properties = found if len(found) > 1 else ()


class OneOrMore(argparse.Action):
    """Takes a value or, where it is repeated, a tuple of them."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Take the value."""
        before = getattr(namespace, self.dest)
        several = () if before is None else (before,) if isinstance(before, str) else before
        setattr(namespace, self.dest, (*several, values) if several else values)


def add_data(parser: Parser) -> None:
    """A user's own data, and how it is read and divided."""
    group = parser.add_argument_group("your own data, instead of --task (see `data check --help`)")
    add_data_file(group)
    add_reading(group)
    add_scores(parser.add_argument_group("scores that are known without measuring (see docs/scores.md)"))


def add_data_file(parser: "Parser | argparse._ArgumentGroup") -> None:
    """The file alone."""
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="CSV, TSV, FASTA (each plain or gzipped), Parquet or Excel"
    )


_WILD_TYPE = "FASTA, or ProteinGym's reference file (default: inferred where the table allows it)"


def add_reading(parser: "Parser | argparse._ArgumentGroup") -> None:
    """How a table is read and divided."""
    parser.add_argument(
        "--split",
        metavar="STRATEGY",
        help=f"how variants become train and test: {', '.join(STRATEGIES)}; not for a file that has a `set` column",
    )
    parser.add_argument(
        "--sheet",
        action=Once,
        metavar="NAME",
        help="of an Excel file (default: the only one that is not empty, if there is one)",
    )
    parser.add_argument(
        "--sequence-column",
        action=OneOrMore,
        metavar="NAME",
        help="default: sequence, or a name like it; repeated for each of several chains",
    )
    parser.set_defaults(properties=())
    parser.add_argument(
        "--target-column",
        action=OneProperty,
        metavar="NAME",
        help="default: target, fitness, score, or a name like these; repeated, a study for each property, all divided "
        "alike",
    )
    parser.add_argument(
        "--replicate-column",
        dest="replicate_columns",
        action="append",
        default=[],
        metavar="NAME",
        help="one of several columns of measurements, whose mean is the target; repeated for each",
    )
    parser.add_argument(
        "--error-column", action=Once, metavar="NAME", help="standard errors of the targets: rows count less for them"
    )
    parser.add_argument(
        "--mutation-column", action=Once, metavar="NAME", help="variants as V39A:D40G (default: found by its cells)"
    )
    parser.add_argument("--group-column", action=Once, metavar="NAME", help="for --split by_group")
    parser.add_argument(
        "--fold-column", action=Once, metavar="NAME", help="the fold of each row: a search cross-validates by these"
    )
    parser.add_argument(
        "--round-column",
        metavar="NAME",
        help="in which round each row was measured: a search then validates each round by those before it "
        "(default: round, where validation=rounds)",
    )
    parser.add_argument(
        "--test-fold",
        metavar="K|all",
        help="with --fold-column: the rows of fold K are test, instead of a --split; all: a study for each in turn",
    )
    parser.add_argument("--wild-type", action=Once, type=Path, metavar="FILE", help=_WILD_TYPE)
    parser.add_argument(
        "--first-position",
        type=position,
        metavar="N",
        help="the number of the wild type's first residue in mutations, those of the table and all that are written "
        "(default: 1)",
    )
    parser.add_argument(
        "--max-train-mutations", type=positive, metavar="N", help="for --split k_vs_rest: train has at most N mutations"
    )
    parser.add_argument("--split-seed", type=count, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--replicates",
        choices=REPLICATES,
        help="several measurements of one sequence (default: mean, and keep for a file that has a `set` column)",
    )
    parser.add_argument(
        "--censored",
        choices=CENSORED,
        help="targets such as <0.01 or >1000: the limit is taken for the value, such rows are set aside, or refused "
        "(default: limit)",
    )
    parser.add_argument(
        "--stops",
        choices=STOPS,
        help="variants with a stop codon (Q2*, p.Gln2Ter): their rows are set aside, or refused (default: refuse)",
    )


def add_scores(parser: "Parser | argparse._ArgumentGroup") -> None:
    """Score columns beside the sequences."""
    parser.add_argument(
        "--zero-shot-column",
        dest="zero_shot_columns",
        action="append",
        default=[],
        metavar="NAME",
        help="a column of scores in the table, or in the --zero-shot-file; may be repeated",
    )
    parser.add_argument(
        "--zero-shot-file", action=Once, type=Path, metavar="FILE", help="scores by sequence or mutations (V39A:D40G)"
    )
    parser.add_argument(
        "--alignment",
        action=Once,
        type=Path,
        metavar="FILE",
        help="sequences aligned with the wild type (A2M, A3M, FASTA, Stockholm; plain or gzipped), of which scores are "
        "made: site_independent, conservation, couplings; H=FILE is of the chain H, where there are several",
    )
    parser.add_argument(
        "--zero-shot",
        action=Once,
        metavar="esm|NAME",
        help="scores of a language model whose weights are at hand: esm is model.backbone, NAME another one",
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="embeddings of the sequences, of any model: .h5, .npz, .safetensors or .parquet (see docs/embeddings.md)",
    )
    parser.add_argument(
        "--allow-derived", action="store_true", help="accept a score column that follows from the target; is recorded"
    )


def add_where(parser: Parser) -> None:
    """Where data and weights are found and runs are written."""
    parser.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")
    add_weights(parser)
    parser.add_argument(
        "--models-dir",
        type=Path,
        metavar="DIR",
        help=f"models of your own, NAME.py and NAME.yaml each (default: ${own_models.VARIABLE})",
    )
    add_folder(parser, "runs_dir", "for everything written")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def add_weights(parser: Parser) -> None:
    """Where pretrained weights are."""
    parser.add_argument("--weights-dir", type=Path, help="where pretrained weights (NAME.pt) are looked for first")


def add_artifacts(parser: Parser) -> None:
    """Where machines find the files of each other's trials."""
    parser.add_argument(
        "--artifacts",
        type=artifact_place,
        metavar="WHERE",
        help="a shared folder, or s3://BUCKET/PREFIX, for weights and predictions of trials (default: "
        "$FLIPSEARCH_ARTIFACTS, then nowhere)",
    )


def add_storage(parser: Parser) -> None:
    """The database."""
    parser.add_argument(
        "--storage", help="SQLAlchemy URL (default: $FLIPSEARCH_STORAGE, then studies.db in the --runs-dir)"
    )


def add_database(parser: Parser) -> None:
    """The database, which may follow from the runs directory."""
    add_folder(parser, "runs_dir", "where the studies are")
    add_storage(parser)


def add_folder(parser: Parser, name: str, what_for: str) -> None:
    """`runs_dir` or `export_dir`; `search.options.folders.set_folders` fills in what is not given."""
    usual = f"${VARIABLES[name]}, then {name} in ./{FILE}, then {DEFAULTS[name]}"
    parser.add_argument(option(name), type=Path, metavar="DIR", help=f"{what_for} (default: {usual})")


def prog() -> str:
    """How the user called us, for the commands that we propose."""
    return f"python {shlex.quote(sys.argv[0])}" if sys.argv and sys.argv[0] else "python run_study.py"
