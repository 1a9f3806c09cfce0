"""From a trained experiment to ten variants for the next plate, in Python.

    python tests/examples/rank_candidates.py studies/experiment/gb1_three_vs_rest-cnn.yaml 39 40 41 54

All combinations of residues at the sites (1-based, of the wild type) are predicted, and the best are chosen so that no
two of them differ at fewer than two sites: a plate of near-copies would teach little.
"""

import sys
from itertools import product
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

import search

N_CHOSEN = 10
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

path, *words = sys.argv[1:]
sites = [int(word) for word in words]

# The weights beside the experiment: those that `confirm` left, else those of the search. Hashes are checked.
experiment = search.load_experiment(path)
wild_type = experiment.task.wild_type
assert wild_type is not None, f"{experiment.task.name} has no wild type"


def variant(residues: tuple[str, ...]) -> str:
    """The whole sequence with these residues at the sites."""
    sequence = list(wild_type)
    for site, residue in zip(sites, residues, strict=True):
        sequence[site - 1] = residue
    return "".join(sequence)


table = pd.DataFrame({"residues": list(product(RESIDUES, repeat=len(sites)))})
members = experiment.predict_members([variant(residues) for residues in table["residues"]])  # (n_members, n)
table["prediction"] = members.mean(axis=0)  # what `experiment.predict` returns
table["std"] = members.std(axis=0, ddof=1) if len(members) > 1 else float("nan")

chosen: list[tuple[str, ...]] = []
for residues in table.sort_values("prediction", ascending=False)["residues"]:
    if all(sum(a != b for a, b in zip(residues, other, strict=True)) >= min(2, len(sites)) for other in chosen):
        chosen.append(residues)
    if len(chosen) == N_CHOSEN:
        break

best = table.set_index("residues").loc[chosen]
best.index = [
    ":".join(
        f"{wild_type[site - 1]}{site}{to}"
        for site, to in zip(sites, residues, strict=True)
        if to != wild_type[site - 1]
    )
    or "WT"
    for residues in chosen
]
print(f"{len(table):,} variants, {experiment.n_members} model(s); prediction in {experiment.task.units}")
print(best.round(3).to_string())
