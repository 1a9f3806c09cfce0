"""In which precision a study's frozen features are computed where that is left to it, and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

IN_MANIFEST = "features"
"""The key of a study's manifest under which `ChosenPrecision.record` stands, where the study chose."""
LEAST_SPEED = 1.2
"""bfloat16 is taken where it is at least so many times as fast as float32."""
MOST_LOSS = 0.01
"""And where a ridge on the features of training sequences ranks them with a Spearman lower by at most this."""


@dataclass(frozen=True, kw_only=True)
class ChosenPrecision:
    """The precision of frozen features, and what was measured for it before the first trial.

    backbone: the model for which bfloat16 does worst, of those that the space reaches. n_sequences: how many training
    sequences passed through it. speed: the time that they took in float32 over that in bfloat16. difference: how far
    apart the pooled features of the two precisions are, as a part of how far apart those of different sequences are,
    a shift of all left out. loss: by how much lower the held-out Spearman of a ridge on them is in bfloat16; below 0
    it is higher. Both are None where that is no number, as with too few sequences.
    """

    precision: Literal["32-true", "bf16-mixed"]
    backbone: str
    n_sequences: int
    speed: float
    difference: float | None
    loss: float | None

    @property
    def record(self) -> dict[str, Any]:
        """As the study's database keeps it."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """What was chosen and why, for people."""
        name = "bfloat16" if self.precision == "bf16-mixed" else "float32"
        found = f"bfloat16 is {self.speed:.1f} times as fast as float32 (wanted: {LEAST_SPEED})"
        if self.loss is None or self.difference is None:
            found += f", and {self.n_sequences} training sequences cannot tell what it changes"
        else:
            found += (
                f", its features differ by {self.difference:.1%} of their spread, and a ridge on them ranks "
                f"{self.n_sequences} training sequences with a Spearman {'lower' if self.loss > 0 else 'higher'} by "
                f"{abs(self.loss):.3f} (allowed: lower by {MOST_LOSS})"
            )
        return f"Frozen features are computed in {name}: {found}; {self.backbone}."


def chosen_precision(about: Mapping[str, Any]) -> ChosenPrecision | None:
    """What the study of a manifest chose; None where its command said the precision, or nothing is frozen."""
    known = about.get(IN_MANIFEST)
    return None if known is None else ChosenPrecision(**{one.name: known[one.name] for one in fields(ChosenPrecision)})


def choose_precision(
    *, backbone: str, n_sequences: int, speed: float, difference: float | None, loss: float | None
) -> ChosenPrecision:
    """bfloat16 where it is faster and loses little, otherwise float32; see `ChosenPrecision`."""
    is_near = loss is not None and loss <= MOST_LOSS
    return ChosenPrecision(
        precision="bf16-mixed" if is_near and speed >= LEAST_SPEED else "32-true",
        backbone=backbone,
        n_sequences=n_sequences,
        speed=speed,
        difference=difference,
        loss=loss,
    )
