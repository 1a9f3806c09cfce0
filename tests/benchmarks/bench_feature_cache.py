"""How long a trial waits for cached features, against reading the same bytes with numpy.

    python tests/benchmarks/bench_feature_cache.py [FOLDER]

Builds caches of 3,000 and 35,000 sequences of 56 residues in a temporary folder (3 GB, below FOLDER if it is given),
then prints what each trial pays: the time to open pooled features (1,280 values) and those of all tokens (58 x 320),
everything being in the page cache; one epoch of gathering tokens when each is used, and so checked, for the
first time; and the time of a gathered batch next to that of a transformer layer's forward pass. Nothing fails here.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.features.frozen import FeatureCache, Features, Scope, frozen_features

N_THREADS = 2
N_REPEATS = 5
MAX_BYTES = 10**11
GATHERED = ((8, 58, 320), (64, 58, 320), (8, 260, 1280), (64, 260, 1280))  # rows, tokens, values a token


class Lookup:
    """An encoder that costs next to nothing."""

    n_prefix = n_suffix = 1
    dtype = torch.float32

    def __init__(self, width: int) -> None:
        self.key, self.width = f"lookup {width}", width
        self._table = torch.randn(25, width, generator=torch.Generator().manual_seed(0))

    def __call__(self, tokens: Tensor) -> Tensor:
        return self._table[tokens]


def random_tokens(n: int, length: int) -> Tensor:
    tokens = torch.randint(3, 25, (n, length), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    tokens[:, 0], tokens[:, -1] = 1, 2
    return tokens


def get(cache: FeatureCache, width: int, tokens: Tensor, scope: Scope) -> Features:
    there = torch.ones(tokens.shape, dtype=torch.bool)
    return frozen_features(
        Lookup(width),
        tokens,
        there,
        there,
        scope=scope,
        cache=cache,
        announce=print,
        on_progress=lambda *_: None,
        also=(),
    )


def median_s(function: Callable[[], object]) -> float:
    times_s = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        function()
        times_s.append(time.perf_counter() - start)
    return statistics.median(times_s)


def numpy_s(folder: Path) -> tuple[float, int]:
    """Seconds to read all segments into memory, and their bytes."""
    paths = list(folder.glob("*.safetensors"))
    return median_s(lambda: [np.fromfile(path, dtype=np.uint8) for path in paths]), sum(p.stat().st_size for p in paths)


def bench_opening(cache: FeatureCache, n: int, width: int, scope: Scope) -> None:
    tokens = random_tokens(n, 58)
    start = time.perf_counter()
    get(cache, width, tokens, scope)
    build_s = time.perf_counter() - start
    read_s, n_bytes = numpy_s(cache.folder(Lookup(width)) / scope)
    open_s = median_s(lambda: get(cache, width, tokens, scope))
    print(
        f"open {n:6,} sequences, {scope:6} x {width:5,} ({n_bytes / 1e6:7,.1f} MB): {1000 * open_s:7.1f} ms, "
        f"numpy reads them in {1000 * read_s:7.1f} ms, ratio {open_s / read_s:.2f} (built in {build_s:.1f} s)"
    )
    if scope == "tokens":
        for rows in (8, 64):
            epochs_s = []
            found = get(cache, width, tokens, scope)
            for _ in range(3):
                start = time.perf_counter()
                for batch in torch.randperm(n).split(rows):
                    found.gather(batch)
                epochs_s.append(time.perf_counter() - start)
            print(
                f"  an epoch of batches of {rows}: {epochs_s[0]:.2f} s when first used and checked, "
                f"{min(epochs_s[1:]):.2f} s afterwards"
            )


def bench_gathering(cache: FeatureCache, rows: int, length: int, width: int) -> None:
    tokens = random_tokens(256, length)
    found = get(cache, width, tokens, "tokens")
    batches = [torch.randperm(256)[:rows] for _ in range(N_REPEATS)]
    gather_s = [median_s(lambda batch=batch: found.gather(batch)) for batch in batches]
    layer = nn.TransformerEncoderLayer(width, 20, 4 * width, dropout=0.0, activation="gelu", batch_first=True).eval()
    states = found.gather(batches[0])
    with torch.no_grad():
        layer_s = median_s(lambda: layer(states))
    print(
        f"gather {rows:2} x {length:3} x {width:5,}: {1000 * statistics.median(gather_s):7.2f} ms, "
        f"{statistics.median(gather_s) / layer_s:.2%} of a transformer layer's forward ({1000 * layer_s:,.0f} ms)"
    )


def main() -> None:
    torch.set_num_threads(N_THREADS)
    print(f"torch {torch.__version__}, {N_THREADS} threads")
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for rows, length, width in GATHERED:
            bench_gathering(FeatureCache(Path(folder) / f"{length}", max_bytes=MAX_BYTES), rows, length, width)
        for n in (3_000, 35_000):
            for width, scope in ((1280, "mean"), (320, "tokens")):
                bench_opening(FeatureCache(Path(folder) / f"{n}", max_bytes=MAX_BYTES), n, width, scope)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
