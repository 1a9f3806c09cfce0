"""The options of the commands that check, confirm, combine and predict with experiments; the standard library alone."""

from pathlib import Path

from search.options.parser import (
    Once,
    OneOrMore,
    Parser,
    add_artifacts,
    add_data_file,
    add_folder,
    add_storage,
    add_where,
)
from search.options.values import (
    level,
    mutagenesis,
    positive,
    requirement,
    study_name,
)


def verify_options(parser: Parser) -> None:
    """Those of `verify`."""
    parser.add_argument("file", type=Path, metavar="EXPERIMENT", help="e.g. studies/experiment/NAME.yaml")
    add_data_file(parser)
    add_where(parser)


def confirm_options(parser: Parser) -> None:
    """Those of `confirm`."""
    parser.add_argument(
        "experiments", type=Path, nargs="+", metavar="EXPERIMENT", help="e.g. studies/experiment/NAME.yaml"
    )
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many new seeds (default: 5)")
    parser.add_argument(
        "--top-k", type=positive, metavar="K", help="confirm the best K trials of the study, which is looked up"
    )
    parser.add_argument(
        "--all-folds",
        action="store_true",
        help="the experiments are those of a search with --test-fold all, one for each fold: give the mean over folds",
    )
    parser.add_argument("--unfinished", action="store_true", help="also where the study has not had all its trials")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_storage(parser)
    add_data_file(parser)
    add_where(parser)


def combine_options(parser: Parser) -> None:
    """Those of `combine`."""
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="studies of one task, data and validation")
    parser.add_argument(
        "--export", type=study_name, required=True, metavar="NAME", help="the experiment's name, EXPORT_DIR/NAME.yaml"
    )
    parser.add_argument(
        "--members", type=positive, default=8, metavar="M", help="different configurations at most (default: 8)"
    )
    add_storage(parser)
    add_artifacts(parser)
    add_folder(parser, "export_dir", "where the studies' experiments are, and for the new one")
    add_data_file(parser)
    add_where(parser)


def add_require(parser: Parser) -> None:
    """What properties have to be."""
    parser.add_argument(
        "--require",
        type=requirement,
        action="append",
        default=[],
        metavar="PROPERTY>=X",
        help='what a property has to be, such as "stability>=0.5" or "aggregation<=2": candidates are ranked by the '
        "chance that they are, times the value of the other properties; may be repeated",
    )


def add_reading_of_candidates(parser: Parser) -> None:
    """How the file of candidates is read, and what a model sees beside their sequences."""
    parser.add_argument(
        "--names",
        action="store_true",
        help="keep the candidates' names: of FASTA headers the first word, of a table the column name or id",
    )
    parser.add_argument(
        "--zero-shot-file",
        action=Once,
        type=Path,
        metavar="FILE",
        help="score columns that the experiment was trained with, by sequence or mutations (default: columns of the "
        "--input)",
    )
    parser.add_argument(
        "--alignment",
        action=Once,
        type=Path,
        metavar="FILE",
        help="where the alignment is now that the experiment's scores are made of (default: where it was)",
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="embeddings of the candidates, where the experiment was trained with some (default: the file of then)",
    )
    parser.add_argument(
        "--sum-zero-shot",
        action="store_true",
        help="the --zero-shot-file has single mutations: a variant's score is the sum of those of its own",
    )
    parser.add_argument(
        "--format",
        choices=("fasta", "csv", "tsv", "parquet", "excel", "text"),
        help="of the input (default: by the file's name, then by what it begins with)",
    )
    column = parser.add_mutually_exclusive_group()
    column.add_argument(
        "--sequence-column",
        action=OneOrMore,
        metavar="NAME",
        help="of the input (default: as in the table that was trained on, else sequence, or a name like it); repeated "
        "for each of several chains",
    )
    column.add_argument(
        "--mutation-column", metavar="NAME", help="of the input, where it names its candidates by mutations: likewise"
    )
    parser.add_argument(
        "--sheet",
        metavar="NAME",
        help="of an Excel input (default: the only one that is not empty, else the one called as in the table that was "
        "trained on)",
    )


def predict_options(parser: Parser) -> None:
    """Those of `predict`."""
    parser.add_argument(
        "file", type=Path, metavar="EXPERIMENT", help="the experiment, e.g. studies/experiment/NAME.yaml"
    )
    parser.add_argument(
        "others",
        type=Path,
        nargs="*",
        default=[],
        metavar="EXPERIMENT",
        help="more, a property each: candidates are ranked by all of them, by non-domination and crowding distance",
    )
    add_require(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="candidates: FASTA, or CSV, TSV, Parquet or Excel with a column of sequences or mutations, or one a line; "
        "text also gzipped; a file, a pipe, or - for standard input",
    )
    what.add_argument(
        "--mutagenesis",
        type=mutagenesis,
        metavar="WHAT",
        help="variants of the wild type instead: singles, doubles, doubles:11,170 at these positions alone, or all "
        "combinations at positions, sites:39,40,41,54",
    )
    what.add_argument(
        "--unmeasured",
        action="store_true",
        help="the rows of the experiment's own table that have no measurement (empty, n.d. and the like), without the "
        "variants that another row measured",
    )
    parser.add_argument(
        "--exclude-measured",
        action="store_true",
        help="leave out variants that were measured already, for training, validation or test, and count them",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="FILE.csv, .tsv, .parquet or .fasta; a FIFO, or - (default: CSV to standard output, and with --figure "
        "nothing)",
    )
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="FILE.html, .png or .svg: the effect of every mutation as a map, with --mutagenesis singles",
    )
    parser.add_argument(
        "--top", type=positive, metavar="K", help="the best K alone, sorted (default: all, in their order)"
    )
    parser.add_argument(
        "--level",
        type=level,
        metavar="SHARE",
        help="of the intervals from low to high: how often a measurement is to lie in its own (default: 0.9)",
    )
    parser.add_argument(
        "--top-chance",
        type=positive,
        metavar="K",
        help="add a column p_top, the chance that a candidate is truly among the best K of all candidates",
    )
    parser.add_argument(
        "--no-distance",
        action="store_true",
        help="leave the distance to the nearest training sequence out, which needs the training data",
    )
    add_reading_of_candidates(parser)
    add_data_file(parser)
    add_where(parser)
