"""What a training step on cached activations costs beyond the trained layers themselves.

    python tests/benchmarks/bench_last_k.py [--depth 2] [--batch 8] [--length 58] [--steps 20]

Trains the last layers of ESM-2 8M (random weights) through Lightning, on activations from the feature cache, and
prints the seconds of a step (reading the activations, forward, backward, head, AdamW) beside those of the forward and
backward passes of the same layers alone on tensors of the same shape, measured in the same run in turn. Goal: at
most 1.25 times. It also prints the largest difference of a training loss with and without the cache.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.batches.batch import Batch
from datasets.common.paths import Places
from datasets.features.frozen import FeatureCache, frozen_features
from datasets.sequences.tokenizer import EsmTokenizer
from models.backbones.transformer import Backbone
from models.esm import ESM

GOAL = 1.25
N_ROWS = 256


def make_model(depth: int) -> ESM:
    """Mean pooling over the last `depth` layers of the smallest backbone."""
    torch.manual_seed(0)
    return ESM(
        backbone="esm2_t6_8M_UR50D",
        pretrained=False,
        representation_layer=None,
        pooling="mean",
        adaptation="last_k",
        fine_tune_depth=depth,
        lora_rank=0,
        lora_alpha=16.0,
        lora_targets=["q", "v"],
        head_width=320,
        head_dropout=0.0,
        lr_head=1e-3,
        lr_backbone=2e-5,
        weight_decay=0.01,
        warmup_steps=0,
        activation_checkpointing=False,
        compile_backbone=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=58, help="tokens, cls and eos included")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not 1 <= arguments.depth <= 5:
        parser.error(f"--depth {arguments.depth}: expected 1 to 5, so that a frozen layer of the six is left")
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, device, Path(folder))


def measure(arguments: argparse.Namespace, device: torch.device, folder: Path) -> None:
    """Print both times, their ratio and the difference of the losses."""
    places = Places(weights_dir=None, cache_dir=folder)
    model = make_model(arguments.depth)
    model.fetch(places, print)
    model.build(places)
    model.to(device)
    (optimizer,), _ = model.configure_optimizers()
    rng = np.random.default_rng(0)
    codes = rng.choice(np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", dtype=np.uint8), (N_ROWS, arguments.length - 2))
    tokens, mask = EsmTokenizer().encode(codes)
    frozen = model.frozen_part(places, "32-true", device)
    assert frozen is not None
    features = frozen_features(
        frozen.encoder,
        tokens,
        mask,
        mask,
        scope=frozen.scope,
        also=frozen.also,
        cache=FeatureCache(folder / "features", max_bytes=2**33),
        announce=print,
        on_progress=lambda n_done, n_total: None,
    )
    target = torch.randn(N_ROWS)

    def batch(rows: Tensor, states: Tensor) -> Batch:
        whole = Batch(
            tokens=tokens[rows].long(),
            mask=mask[rows],
            region=mask[rows],
            target=target[rows],
            index=rows,
            features=states,
        )
        return whole.to(device)

    def loss(of: Batch) -> Tensor:
        return nn.functional.mse_loss(model(of), of.target)

    def step(rows: Tensor) -> None:
        loss(batch(rows, features.gather(rows))).backward()
        optimizer.step()
        optimizer.zero_grad()

    first, last = model.n_frozen_layers, model.n_layers
    assert isinstance(model.backbone, Backbone)
    trained = [parameter for parameter in model.backbone.layers.parameters() if parameter.requires_grad]
    states = features.gather(torch.arange(arguments.batch)).to(device)
    shape_mask = mask[: arguments.batch].to(device)

    def layers_alone() -> None:
        assert model.backbone is not None
        out = model.backbone.run(states, shape_mask, first, last)
        torch.autograd.grad(out.sum(), trained)

    step_s, layers_s = [], []
    for _ in range(arguments.steps + 3):
        rows = torch.randperm(N_ROWS)[: arguments.batch]
        step_s.append(seconds(partial(step, rows), device))
        layers_s.append(seconds(layers_alone, device))
    ratio = statistics.median(step_s[3:]) / statistics.median(layers_s[3:])
    print(
        f"last {arguments.depth} of {last} layers, {arguments.batch} x {arguments.length} tokens on {device}: "
        f"{1000 * statistics.median(step_s[3:]):.1f} ms a step, {1000 * statistics.median(layers_s[3:]):.1f} ms the "
        f"layers alone: {ratio:.2f} times, goal at most {GOAL}: {'met' if ratio <= GOAL else 'MISSED'}"
    )
    rows = torch.arange(arguments.batch)
    uncached = frozen.encoder(tokens[rows]).cpu()
    difference = (loss(batch(rows, features.gather(rows))) - loss(batch(rows, uncached))).abs().item()
    print(f"loss with and without the cache: differs by {difference:.1e}; goal at most 1e-5")


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Wall time of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
