"""What the families say of sequences before training is what they predict after it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datasets.sequences.tokenizer import ResidueTokenizer
from models.closed_form import ClosedForm
from models.cnn import CNN
from models.esm import ESM
from models.fitness_model import FitnessModel
from models.kernel import Kernel
from models.metrics import is_constant
from models.ridge import Ridge
from tests.helpers.variants import make_batch, make_cnn

WILD = "MKTAYIAKQR"


def mutant(*changes: tuple[int, str]) -> str:
    sequence = list(WILD)
    for position, residue in changes:
        sequence[position] = residue
    return "".join(sequence)


def codes(sequences: Sequence[str]) -> NDArray[np.uint8]:
    longest = max(map(len, sequences))
    return np.array([list(text.encode().ljust(longest, b"\0")) for text in sequences], dtype=np.uint8)


def kernel(**changes: object) -> Kernel:
    settings = {"length_scale": 2.0, "variance": 1.0, "linear_variance": 0.3, "noise": 0.1}
    return Kernel(**(settings | {"marginal_likelihood": False, "max_train": None} | changes))


TRAIN = [mutant((position, residue)) for position in range(5) for residue in "CDEFG"[: position + 1]]
TRAIN += [WILD, mutant((0, "C"), (1, "D"))]
CASES = {
    "other positions": ([mutant((p, r)) for p in range(5, 10) for r in "CDE"], False, False),
    "one position": ([mutant((7, r)) for r in "CDEFW"], False, False),
    "the positions of training": ([mutant((p, "W")) for p in range(5)], True, True),
    "residues of training": ([mutant((1, "C")), mutant((3, "E"))], True, True),
    "new residues at one position": ([mutant((2, r)) for r in "WYV"], False, False),
    "other positions, one or two": ([mutant((6, "C")), mutant((7, "C"), (8, "D"))], False, True),
    "other positions besides known ones": ([mutant((0, "C"), (7, "D")), mutant((3, "E"), (8, "D"))], True, True),
    "the wild type as well": ([WILD, mutant((7, "D"))], False, True),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", [Ridge, Kernel])
def test_a_model_of_one_hot_residues_says_what_it_will_not_tell_apart(name: str, family: type[ClosedForm]) -> None:
    sequences, *expected = CASES[name]
    check(kernel() if family is Kernel else Ridge(alpha=0.1), sequences, expected[family is Kernel])


ALIKE = {
    "other positions": [mutant((p, r)) for p in range(5, 10) for r in "CDE"],
    "one position": [mutant((7, r)) for r in "CDEFW"],
    "the same exchange elsewhere": [mutant((3, "C")), mutant((6, "C"))],  # A and A at both
    "new residues at one position": [mutant((2, r)) for r in "WYV"],
    "the positions of training": [mutant((p, "W")) for p in range(5)],
}
KNOWS = {
    "distance": ({"similarity": "blosum62"}, ALIKE.keys()),
    "product": ({"similarity": "physicochemical", "sites": "product"}, ALIKE.keys()),
    "additive": (
        {"similarity": "blosum62", "sites": "additive"},
        {"the same exchange elsewhere", "new residues at one position", "the positions of training"},
    ),
    "composition": ({"composition": True}, ALIKE.keys() - {"the same exchange elsewhere"}),
    "places": ({"places": True}, ALIKE.keys() - {"one position", "new residues at one position"}),
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("settings", KNOWS)
def test_a_kernel_that_knows_amino_acids_tells_new_positions_apart(settings: str, name: str) -> None:
    changes, known = KNOWS[settings]
    # Position 3 is one of training's, which any kernel knows.
    can = name in known or name == "the same exchange elsewhere"
    check(kernel(**changes), ALIKE[name], can)


def test_scores_tell_all_apart() -> None:
    sequences = codes(CASES["other positions"][0])
    for model in (Ridge(alpha=1.0), kernel(score_mean=True), kernel(score_kernel="added")):
        assert model.can_rank(sequences, codes(TRAIN), has_scores=True)
        assert not model.can_rank(sequences, codes(TRAIN))
    assert not kernel(score_mean=False, score_kernel="none").can_rank(sequences, codes(TRAIN), has_scores=True)


def check(model: ClosedForm, sequences: Sequence[str], can: bool) -> None:
    assert model.can_rank(codes(sequences), codes(TRAIN)) is can
    target = torch.linspace(-1, 2, len(TRAIN)).double().square()
    with torch.no_grad():
        model.solve(_tokens(TRAIN), target)
        prediction = model(make_batch(_tokens(sequences)))
    assert is_constant(prediction) is not can


def test_others_are_believed_to() -> None:
    for family in (CNN, ESM):
        assert family.can_rank is FitnessModel.can_rank
    assert make_cnn().can_rank(codes(CASES["other positions"][0]), codes(TRAIN))


def test_one_number_is_one_number_whatever_its_last_bits() -> None:
    one = torch.full((100,), 0.7)
    assert is_constant(one)
    assert is_constant(torch.nextafter(one, torch.tensor(1.0)) * torch.tensor([1.0] + [1.0] * 99))
    some = one.clone()
    some[3] = torch.nextafter(some[3], torch.tensor(1.0))
    assert is_constant(some)
    some[3] = 0.70001
    assert not is_constant(some)
    assert not is_constant(torch.tensor([0.0, 1e-30]))
    assert is_constant(torch.zeros(3))


def _tokens(sequences: Sequence[str]) -> torch.Tensor:
    return ResidueTokenizer().encode(codes(sequences))[0].long()
