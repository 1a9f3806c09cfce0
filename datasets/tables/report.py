"""What a user's table holds, in words: the text of `data check`; and how large the parts of its splits would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.chains import DIVIDER, Chains
from datasets.sequences.crop import Sites
from datasets.sequences.packed import Packed
from datasets.sequences.sites import region_of, written_sites
from datasets.tables import column_names
from datasets.tables.parts import in_order
from datasets.tables.properties import divided_alike
from datasets.tables.split_strategies import TableSplit, divide
from datasets.tables.survey import Survey
from datasets.tables.table import STRATEGIES, Table

_SPLITS = [strategy for strategy in STRATEGIES if strategy != "k_vs_rest"]  # which needs a number that nobody named
_FLOOR_SHARE = 0.1
_N_RESIDUES_SHOWN = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSizes:
    """How many variants each part of a split has: all 0 where it is not possible, and then `how` says why not.

    name: the strategy; None is the file's own split. how: what divides it, in words.
    """

    name: str | None
    train: int
    validation: int
    test: int
    how: str
    is_possible: bool = True

    @property
    def words(self) -> str:
        """`8 train, 1 validation, 2 test (a fifth drawn at random is test)`."""
        if not self.is_possible:
            return f"not possible: {self.how}"
        return f"{self.train:,} train, {self.validation:,} validation, {self.test:,} test ({self.how})"


def report(survey: Survey) -> Iterator[str]:
    """Yield the lines."""
    columns, table = survey.columns, survey.table
    what = (
        f"sequences in {table.sequence_column!r}"
        if table.sequence_column
        else f"mutations in {table.mutation_column!r}"
    )
    yield f"{columns.where}: {columns.kind}, {len(columns):,} rows, {what}, targets in {table.target_column!r}"
    if survey.whole is not None:
        n_whole = len(survey.whole.sequences)
        yield (
            f"One of {len(table.properties)} properties; the {n_whole:,} variants that any of them has are divided "
            "once for all."
        )
    yield from _aligned(
        [
            ("variants", _variants(survey)),
            ("wild type", _shortened(written_wild_type(table)) + _first(table.first_position)),
            ("positions", _positions(survey)),
            ("mutations", _mutations(survey.common.n_mutations)),
            ("residues", _residues(survey.sequences)),
            ("targets", _targets(survey.target)),
            ("replicates", _replicates(survey)),
            ("rounds" if survey.table.round_column else "folds", _folds(survey)),
            ("a model sees", _seen(survey)),
        ]
    )
    yield ""
    yield from _findings(survey)
    yield ""
    yield from _divisions(survey)


def _aligned(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in facts)
    return (f"  {name:<{width}}  {text}" for name, text in facts if text)


def _variants(survey: Survey) -> str:
    lengths = survey.common.lengths
    low, high = int(lengths.min()), int(lengths.max())
    of = f"{low}" if low == high else f"{low} to {high} (median {np.median(lengths):g})"
    what = "residues" if survey.table.aligned_length is None else "aligned columns"
    return f"{len(survey.sequences):,} of {of} {what}"


def _shortened(sequence: str | None) -> str:
    if sequence is None:
        return "not known"
    n_residues = len(sequence.replace(DIVIDER, ""))
    return sequence if len(sequence) <= _N_RESIDUES_SHOWN else f"{sequence[:_N_RESIDUES_SHOWN]}... ({n_residues})"


def written_wild_type(table: Table) -> str | None:
    """Return the wild type as people write it, with `|` between its chains; None where it is not known."""
    if table.wild_type is None or table.chains is None:
        return table.wild_type
    return Chains.of(table.chains).written(table.wild_type)


def _first(first_position: int) -> str:
    return "" if first_position == 1 else f", whose first residue has the number {first_position}"


def _positions(survey: Survey) -> str:
    if survey.table.sites is not None:
        sites = _as_counted(survey.table.sites, survey.table.first_position, survey.table.chains)
        return sites if len(sites) <= 100 else sites[:100].rpartition(",")[0] + ", ..."
    if survey.table.window is not None:
        start, stop = survey.table.window
        return f"all begin with the same {start} residues and end with the same {-stop}"
    return "all vary"


def _as_counted(sites: str, first_position: int, chains: str | None) -> str:
    region = region_of(sites, None)
    assert isinstance(region, Sites)
    if chains is not None:
        called = [Chains.of(chains).chain_at(position) for position in region.positions]
        by_chain = {name: [number for chain, number in called if chain == name] for name, _ in called}
        return " ".join(f"{name}:{written_sites(numbers)}" for name, numbers in by_chain.items())
    return written_sites([position + first_position for position in region.positions])


def _mutations(n_mutations: NDArray[np.int64] | None) -> str:
    if n_mutations is None:
        return ""
    numbers, counts = np.unique(n_mutations, return_counts=True)
    words = [f"{number}: {n:,}" for number, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    return ", ".join(words[:10]) + (f", ... {words[-1]}" if len(words) > 10 else "")


def _residues(sequences: Packed) -> str:
    return "".join(sorted(map(chr, set().union(*sequences.pieces()))))


def _targets(target: NDArray[np.float64]) -> str:
    low, lower, middle, upper, high = np.quantile(target, (0, 0.25, 0.5, 0.75, 1))
    text = f"{low:.4g} to {high:.4g}, quartiles {lower:.4g}, {middle:.4g}, {upper:.4g}, "
    text += f"standard deviation {target.std():.4g}"
    values, counts = np.unique(target, return_counts=True)
    most = int(counts.argmax())
    if len(target) > 20 and counts[most] >= _FLOOR_SHARE * len(target):
        text += f"; {counts[most] / len(target):.0%} are {values[most]:g}"
    return text


def _replicates(survey: Survey) -> str:
    noise = survey.noise
    if noise is None:
        return "none, so how noisy the targets are is not known"
    repeated = "1 variant was" if noise.n_repeated == 1 else f"{noise.n_repeated:,} variants were"
    return (
        f"{repeated} measured more than once; one measurement has a standard deviation of {noise.sd:.3g}; "
        f"reliability {noise.reliability:.3f}: a perfect model would reach a Spearman of about "
        f"{noise.reachable_spearman:.3f}"
    )


def _folds(survey: Survey) -> str:
    folds = survey.landscape.fold
    if folds is None:
        possible = column_names.possible_fold_columns(survey.columns)
        return f"named by {', '.join(map(repr, possible[:5]))}, it seems: --fold-column NAME takes one" * bool(possible)
    counts = Counter(folds)
    words = [f"{name}: {counts[name]:,}" for name in in_order(folds)]
    named = survey.table.fold_column or survey.table.round_column
    return f"{named!r}: {', '.join(words[:10])}" + (", ..." if len(words) > 10 else "")


def _seen(survey: Survey) -> str:
    if survey.table.sites is None and survey.table.window is None:
        return "the whole sequences"
    return "the whole sequences; with data.crop=region only what lies between the first and the last varying position"


def _findings(survey: Survey) -> Iterator[str]:
    found = survey.findings.found
    if not found:
        yield "Nothing unusual was found."
    for level in ("refused", "warning", "note"):
        for finding in found:
            if finding.level == level:
                where = f"{finding.where}: " if finding.lines else ""
                yield f"{level:<8} {where}{finding.text}" + (f"; {finding.remedy}" if finding.remedy else "")


def _divisions(survey: Survey) -> Iterator[str]:
    """Yield the parts: those of the file, of the chosen split, or of each split that there could be."""
    sizes = split_sizes(survey)
    if survey.division is not None:
        yield f"split: {sizes[0].words}"
    elif sizes:
        yield "splits that a search could use (--split):"
        for one in sizes:
            yield f"  {one.name:<14} {one.words}"


def split_sizes(survey: Survey) -> list[SplitSizes]:
    """Return the sizes of the split that the file has or was divided by, or else of each that there could be.

    None where a split was asked for that is not possible, which is a finding.
    """
    table, chosen = survey.table, survey.division
    if chosen is not None:
        return [_sizes(table.split, chosen)]
    if table.split is not None:
        return []
    found, whole = [], survey.whole or survey
    for strategy in _SPLITS:
        if strategy == "by_group" and whole.landscape.group is None:
            continue
        if strategy == "low_vs_high" and whole is not survey:
            continue  # each property would have its own
        try:
            division = divide(
                whole.landscape,
                strategy,
                max_train_mutations=None,
                seed=table.split_seed,
                group_rule=table.group_rule,
            )
        except UserError as error:
            found.append(SplitSizes(name=strategy, train=0, validation=0, test=0, how=str(error), is_possible=False))
        else:
            test, validation = division.test, division.validation
            if whole is not survey:
                test, validation = divided_alike(whole.sequences, division, survey.sequences)
            found.append(_sizes(strategy, TableSplit(test=test, validation=validation, how=division.how)))
    return found


def _sizes(name: str | None, split: TableSplit) -> SplitSizes:
    n_test, n_validation = int(split.test.sum()), int(split.validation.sum())
    n_train = len(split.test) - n_test - n_validation
    return SplitSizes(name=name, train=n_train, validation=n_validation, test=n_test, how=split.how)
