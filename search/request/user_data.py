"""The data that a request is about: its task, which may be a user's own table, and the score columns beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.alignments.names import NAMES
from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import ScoreConfig, ScoreSource
from datasets.tables.table import Table
from datasets.task import Task
from datasets.tasks.own_table import TableSource
from datasets.tasks.registry import find_task
from search.checkout import STUDIES
from search.config.run_config import language_models, with_embeddings, with_scores
from search.options.table_options import ESM
from search.request.embeddings import find_embeddings
from search.request.search_request import DataOptions
from search.request.user_table import user_task

if TYPE_CHECKING:
    from datasets.scores.language_model import LanguageModel
    from datasets.sequences.chains import Chains
    from search.study.config import StudyConfig


@dataclass(frozen=True, kw_only=True)
class UserData:
    """A task, what its table is (None for one that has a name), its score columns and embeddings (None without any)."""

    task: Task
    table: Table | None
    scores: ScoreConfig | None
    embeddings: EmbeddingConfig | None = None


def user_data(
    options: DataOptions, task: str | None, runs: Path, announce: Callable[[str], None], words: Sequence[str]
) -> UserData:
    """The data that options describe; `task` is the name of a task where they name no table.

    `announce` is told what was found of a table and of scores; `words` are the overrides for Hydra.

    Raises:
        UserError: The table or the scores are not what a search accepts.
    """
    own = user_task(options, runs, announce)
    if own is None:
        assert task is not None, "a request names a task or a table"
        found, table = find_task(task), None
    else:
        found, table = own
    scores = score_columns(options, found, announce, words)
    embeddings = None if options.embeddings is None else find_embeddings(options.embeddings, found)
    task_with_all = found if scores is None else with_scores(found, scores)
    if embeddings is not None:
        announce(f"{embeddings.file}: embeddings of {embeddings.shown}.")
        task_with_all = with_embeddings(task_with_all, embeddings)
    return UserData(task=task_with_all, table=table, scores=scores, embeddings=embeddings)


def config_of(words: Sequence[str], data: UserData) -> "StudyConfig":
    """The config of a study of the data; see `search.study.config.study_config`."""
    from search.study.config import study_config  # here because `data check` does not wait for Hydra

    return study_config(words, table=data.table, scores=data.scores, embeddings=data.embeddings)


def score_columns(
    options: DataOptions, task: Task, announce: Callable[[str], None], words: Sequence[str] = ()
) -> ScoreConfig | None:
    """The score columns that the options name; None where they name none. See `user_data`.

    Raises:
        UserError: A file is missing, or a column is, or holds no scores.
    """
    if task.chains is not None and options.zero_shot is not None:
        raise UserError(
            "--zero-shot scores variants of one chain, and these have several: leave it out, or give scores in columns "
            "of the table with --zero-shot-column, or in a file with --zero-shot-file."
        )
    sources = []
    named = list(dict.fromkeys(options.zero_shot_columns))
    if options.zero_shot_file is not None:
        file, first = options.zero_shot_file, task.first_position
        sources.append(file_source(file, named, task.wild_type, first, task.chains, announce))
    rest = [name for name in named if not any(name in source.columns for source in sources)]
    if rest:
        sources.append(_table_source(rest, task, options.zero_shot_file))
    if options.alignment is not None:
        sources.append(_alignment_source(options.alignment, task))
    if options.zero_shot is not None:
        backbone = options.zero_shot if options.zero_shot != ESM else _backbone(words)
        sources.append(_model_source(backbone, task, language_models(options.weights_dir, announce)))
    if not sources:
        return None
    return ScoreConfig(sources=sources, use="all", allow_derived=options.allow_derived)


def file_source(
    path: Path,
    named: list[str],
    wild_type: str | None,
    first_position: int = 1,
    chains: "Chains | None" = None,
    announce: Callable[[str], None] = lambda sentence: None,
) -> ScoreSource:
    """A file of scores: those of its columns that are named, or all if none of them is; see `read_scores_file`."""
    # Imported as late as this, so that usage errors do not wait for NumPy.
    from datasets.common.files import named_hash
    from datasets.scores.keyed import read_scores_file
    from datasets.tables.read import read_columns

    digest = named_hash(path, "scores")
    here = [name for name in named if name in read_columns(path).cells] if named else []
    found = read_scores_file(path, here or None, wild_type, first_position, chains, announce)
    found.refuse_constant(str(path))
    return ScoreSource(kind="file", file=str(path), hash=digest, columns=list(found.names))


def _alignment_source(path: Path, task: Task) -> ScoreSource:
    from datasets.common.files import named_hash

    chain, file = None, path
    if task.chains is not None:
        names = task.chains.names
        chain, is_named, rest = str(path).partition("=")
        if not is_named or chain.upper() not in tuple(names):
            raise UserError(
                f"--alignment {path} is of one chain, and these variants have several ({', '.join(names)}): name its "
                f"chain, as in --alignment {names[0]}={path.name if not is_named else Path(rest).name}."
            )
        chain, file = chain.upper(), Path(rest)
    digest = named_hash(file, "scores")
    return ScoreSource(kind="alignment", file=str(file), hash=digest, columns=list(NAMES), chain=chain)


def _backbone(words: Sequence[str]) -> str:
    """The language model of the config, or that of `--model esm` where the model has none."""
    from search.config.compose import compose  # as above: Hydra

    model = compose(words, STUDIES).get("model")
    model = model if isinstance(model, Mapping) and "backbone" in model else compose(["model=esm"], STUDIES)["model"]
    if model.get("pretrained") is False:
        raise UserError(
            f"--zero-shot {ESM} is the score of model.backbone, and model.pretrained=false leaves that with random "
            f"weights, which know nothing: leave one of the two out, or name the language model, as in --zero-shot "
            f"{model['backbone']}."
        )
    return str(model["backbone"])


def _model_source(backbone: str, task: Task, models: "Callable[[str], LanguageModel]") -> ScoreSource:
    from datasets.scores.language_model import NAMES as COLUMNS
    from datasets.scores.language_model import checked_wild_type

    checked_wild_type(task.wild_type, backbone)
    found = models(backbone)
    return ScoreSource(kind="language_model", file=None, hash=found.hash, columns=list(COLUMNS), backbone=found.name)


def _table_source(names: list[str], task: Task, file: Path | None) -> ScoreSource:
    from datasets.scores.score_set import table_scores

    source = task.source
    if not isinstance(source, TableSource):
        where = "name the file that holds it with --zero-shot-file" if file is None else f"it is not in {file} either"
        raise UserError(f"The task {task.name} has no score column {names[0]!r} (--zero-shot-column): {where}.")
    _refuse_measurements(names, source.table)
    found = table_scores(source.table, source.path, names, source.loaded)
    found.refuse_constant(str(source.path))
    return ScoreSource(kind="table", file=None, hash=found.hash, columns=list(found.names))


def _refuse_measurements(names: list[str], table: Table) -> None:
    """Refuse columns that the target is the mean of, and that of its errors: no other variant has them.

    However loosely one replicate agrees with their mean, it tells of the test rows what they were measured at. The
    target itself is left to `refuse_derived`, which says how that can be told.

    Raises:
        UserError: One of the columns is such a one.
    """
    known = dict.fromkeys(table.replicate_columns, "--replicate-column")
    if table.error_column is not None:
        known[table.error_column] = "--error-column"
    for name in names:
        if name in known:
            raise UserError(
                f"The score column {name!r} is a measurement of this table ({known[name]}), and a score has to be "
                "known of variants that nobody has measured: leave it out."
            )
