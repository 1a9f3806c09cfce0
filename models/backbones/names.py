"""The pretrained protein language models, by fair-esm's names. Importable without torch."""

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal[
    "esm1b_t33_650M_UR50S",
    "esm1v_t33_650M_UR90S_1",
    "esm1v_t33_650M_UR90S_2",
    "esm1v_t33_650M_UR90S_3",
    "esm1v_t33_650M_UR90S_4",
    "esm1v_t33_650M_UR90S_5",
    "esm2_t6_8M_UR50D",
    "esm2_t12_35M_UR50D",
    "esm2_t30_150M_UR50D",
    "esm2_t33_650M_UR50D",
    "esm2_t36_3B_UR50D",
    "esm2_t48_15B_UR50D",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneShape:
    """The architecture of a transformer encoder.

    ESM-1b and ESM-1v have learned positions, ESM-1b a layer norm before the first layer too; ESM-2 has rotary
    positions. `width` is D; the feed-forward layers have 4 D. `max_residues` is the longest sequence that the model
    takes, cls and eos not counted; None where there is no limit.
    """

    family: Literal["esm1b", "esm1v", "esm2"]
    n_layers: int
    width: int
    n_heads: int
    max_residues: int | None


def _esm1(family: Literal["esm1b", "esm1v"]) -> BackboneShape:
    return BackboneShape(family=family, n_layers=33, width=1280, n_heads=20, max_residues=1022)


def _esm2(n_layers: int, width: int, n_heads: int) -> BackboneShape:
    return BackboneShape(family="esm2", n_layers=n_layers, width=width, n_heads=n_heads, max_residues=None)


# Rives et al. 2021, Meier et al. 2021, Lin et al. 2023 (table S1); fair-esm's README.
BACKBONES: dict[str, BackboneShape] = {
    "esm1b_t33_650M_UR50S": _esm1("esm1b"),
    "esm1v_t33_650M_UR90S_1": _esm1("esm1v"),
    "esm1v_t33_650M_UR90S_2": _esm1("esm1v"),
    "esm1v_t33_650M_UR90S_3": _esm1("esm1v"),
    "esm1v_t33_650M_UR90S_4": _esm1("esm1v"),
    "esm1v_t33_650M_UR90S_5": _esm1("esm1v"),
    "esm2_t6_8M_UR50D": _esm2(6, 320, 20),
    "esm2_t12_35M_UR50D": _esm2(12, 480, 20),
    "esm2_t30_150M_UR50D": _esm2(30, 640, 20),
    "esm2_t33_650M_UR50D": _esm2(33, 1280, 20),
    "esm2_t36_3B_UR50D": _esm2(36, 2560, 40),
    "esm2_t48_15B_UR50D": _esm2(48, 5120, 40),
}
