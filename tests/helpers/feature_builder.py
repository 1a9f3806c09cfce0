"""A small encoder that counts, sequences for it, and a process of its own that builds their features.

    python feature_builder.py CACHE LOG SCOPE N_SEQUENCES [--stall-at N] [--wait-s S]

The process says "ready", waits for a line on its standard input, and prints how many sequences it computed. At the
N-th file that is to be moved into place it says "stalled" and waits for its end.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor, nn

from datasets.features import cache as feature_store
from datasets.features import sinks as feature_sinks
from datasets.features.frozen import FeatureCache, Features, frozen_features

N_TOKENS = 25  # 1 is cls, 2 is eos, residues from 3


class CountingEncoder:
    """Embedding, position and the neighbours' mean, mixed by products as in a transformer's layer.

    Each sequence's number of passes is counted, and written to `log` if there is one.
    """

    n_prefix = 1
    n_suffix = 1

    def __init__(
        self, *, width: int = 16, dtype: torch.dtype = torch.float32, key: str = "tiny", log: Path | None = None
    ) -> None:
        self.key, self.width, self.dtype = key, width, dtype
        self.passes: dict[str, int] = {}
        self.shapes: list[tuple[int, ...]] = []
        self.wait_s = 0.0
        self.fails_after: int | None = None
        self._log = log
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self._embedding = nn.Embedding(N_TOKENS, width)
            self._position = nn.Embedding(1100, width)
            self._mix = nn.Linear(2 * width, width)

    @property
    def n_passes(self) -> int:
        return sum(self.passes.values())

    def __call__(self, tokens: Tensor) -> Tensor:
        assert tokens.dtype == torch.int64
        if self.fails_after is not None and len(self.shapes) >= self.fails_after:
            raise MemoryError("no memory left")
        self.shapes.append(tuple(tokens.shape))
        seen = {row.tobytes().rstrip(b"\0").hex() for row in tokens.to(torch.uint8).numpy()}
        for name in seen:
            self.passes[name] = self.passes.get(name, 0) + 1
        if self._log is not None:
            with self._log.open("a") as file:
                file.writelines(f"{name}\n" for name in seen)
        time.sleep(self.wait_s)
        states = self._embedding(tokens) + self._position.weight[: tokens.shape[1]]
        there = (tokens != 0)[..., None].float()
        context = (states * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
        return torch.tanh(self._mix(torch.cat([states, context.expand_as(states)], -1)))

    def alone(self, row: Tensor) -> Tensor:
        """The states (L, D) of one sequence (L,), computed in the most ordinary way."""
        states = self._embedding(row[None]) + self._position.weight[: len(row)]
        context = states.mean(1, keepdim=True).expand_as(states)
        return torch.tanh(self._mix(torch.cat([states, context], -1)))[0].detach()


@dataclass
class Rows:
    """Sequences of 4 to `longest` residues between cls and eos, and a region of three of them."""

    tokens: Tensor
    mask: Tensor
    region: Tensor
    lengths: list[int] = field(default_factory=list)

    def __getitem__(self, rows: Any) -> "Rows":
        return Rows(self.tokens[rows], self.mask[rows], self.region[rows], [self.lengths[i] for i in rows])

    @property
    def distinct(self) -> int:
        return len({tuple(row) for row in self.tokens.tolist()})


def make_rows(n: int, *, seed: int = 0, longest: int = 28) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, longest + 3, (n,), generator=generator)
    tokens = torch.randint(3, N_TOKENS, (n, longest + 2), generator=generator)
    position = torch.arange(longest + 2)
    mask = position < lengths[:, None]
    tokens[:, 0] = 1
    tokens[position == lengths[:, None] - 1] = 2
    tokens[~mask] = 0
    region = (position >= 2) & (position < 5) & (position < lengths[:, None] - 1)
    return Rows(tokens.to(torch.uint8), mask, region.expand_as(mask).clone(), lengths.tolist())


def features(encoder: CountingEncoder, rows: Rows, cache: FeatureCache, scope: Any, **options: Any) -> Features:
    options = {"announce": fail_on_word, "on_progress": lambda n_done, n_total: None, **options}
    return frozen_features(encoder, rows.tokens, rows.mask, rows.region, scope=scope, cache=cache, **options)


def fail_on_word(sentence: str) -> None:
    raise AssertionError(f"announced: {sentence}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("scope")
    parser.add_argument("n_sequences", type=int)
    parser.add_argument("--stall-at", type=int)
    parser.add_argument("--wait-s", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    feature_sinks.SEGMENT_BYTES = 2**14
    if arguments.stall_at is not None:
        stall_at(arguments.stall_at)
    encoder = CountingEncoder(log=arguments.log)
    encoder.wait_s = arguments.wait_s
    print("ready", flush=True)
    sys.stdin.readline()
    found = features(
        encoder,
        make_rows(arguments.n_sequences),
        FeatureCache(arguments.cache, max_bytes=10**9),
        arguments.scope,
        announce=lambda sentence: None,
    )
    print(found.n_computed, flush=True)


def stall_at(number: int) -> None:
    n_moved = 0
    replace = os.replace

    def stalling(source: Path, target: Path) -> None:
        nonlocal n_moved
        n_moved += 1
        if n_moved == number:
            print("stalled", flush=True)
            time.sleep(600)
        replace(source, target)

    feature_store.os.replace = stalling  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
