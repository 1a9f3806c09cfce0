"""How fast a language model's forward pass is, against fair-esm's own and against the chip's matrix products.

    python tests/benchmarks/bench_esm_forward.py [--backbone NAME] [--batch N] [--length T] [--precision bf16]
        [--rounds N]

Prints, from one run on one device: the rate of a plain matrix product at the precision; the tokens per second of
fair-esm's model and of ours with the same random weights, batch and precision (bf16 is autocast for both), as they
take turns; their ratio; and which part of the matmul rate our pass reaches. Without a GPU it takes a small model in
float32. `--compile` adds our pass with compiled layers. Nothing fails here: other work on the machine could make it.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import esm
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from models.backbones.names import BACKBONES, BackboneShape
from models.backbones.transformer import Backbone

N_ROUNDS = 7
MIN_ROUND_S = 0.5
PRECISIONS = {"bf16": torch.bfloat16, "32": torch.float32}
ESM2 = [name for name, shape in BACKBONES.items() if shape.family == "esm2"]


def seconds(call: Callable[[], object], device: torch.device, n_calls: int = 1) -> float:
    """Of one call, all work on the device included."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(n_calls):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / n_calls


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def best_of_turns(calls: list[Callable[[], object]], device: torch.device, n_rounds: int = N_ROUNDS) -> list[float]:
    """The best seconds of each call; they take turns, so that a busy moment hits all of them."""
    for call in calls:
        seconds(call, device, 2)  # to warm up and, where it is compiled, to compile
    n_calls = [max(1, int(MIN_ROUND_S / seconds(call, device))) for call in calls]
    rounds = [[seconds(call, device, n) for call, n in zip(calls, n_calls, strict=True)] for _ in range(n_rounds)]
    return [min(times) for times in zip(*rounds, strict=True)]


def product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A product of two square matrices, and its operations."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    return lambda: torch.mm(a, b), 2.0 * size**3


def n_operations(shape: BackboneShape, n: int, length: int) -> float:
    """Multiplications and additions in the products of all layers: projections, feed-forward network, attention."""
    per_token = 2 * 12 * shape.width**2 + 4 * length * shape.width
    return float(shape.n_layers * per_token * n * length)


def build(shape: BackboneShape, device: torch.device) -> tuple[nn.Module, Backbone]:
    """fair-esm's model with random weights, and ours with the same."""
    with device:
        theirs = esm.ESM2(num_layers=shape.n_layers, embed_dim=shape.width, attention_heads=shape.n_heads)
    with torch.device("meta"):
        ours = Backbone(shape)
    state = theirs.state_dict()
    ours.load_state_dict({key: state[key] for key in ours.state_dict()}, assign=True)
    return theirs.eval().requires_grad_(False), ours.requires_grad_(False)


def make_tokens(n: int, length: int, device: torch.device) -> Tensor:
    tokens = torch.randint(5, 25, (n, length), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, -1] = 1, 3
    return tokens.to(device)


def main() -> None:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert device is not None
    on_gpu = device.type != "cpu"
    parser = argparse.ArgumentParser(description="ESM-2's forward pass: fair-esm's against ours.")
    parser.add_argument("--backbone", choices=ESM2, default=f"esm2_{'t33_650M' if on_gpu else 't6_8M'}_UR50D")
    parser.add_argument("--batch", type=int, default=32 if on_gpu else 16)
    parser.add_argument("--length", type=int, default=512 if on_gpu else 128, help="tokens, cls and eos included")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16" if on_gpu else "32")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS, help="of which the best counts")
    parser.add_argument("--compile", action="store_true", help="also time ours with compiled layers")
    options = parser.parse_args()
    shape, dtype = BACKBONES[options.backbone], PRECISIONS[options.precision]
    theirs, ours = build(shape, device)
    tokens = make_tokens(options.batch, options.length, device)

    def pass_through(model: nn.Module, inputs: Tensor, **arguments: list[int]) -> Callable[[], object]:
        @torch.no_grad()
        def call() -> object:
            with torch.autocast(device.type, dtype=dtype) if dtype != torch.float32 else contextlib.nullcontext():
                return model(inputs, **arguments)

        return call

    matmul, matmul_operations = product(device, dtype)
    names, calls = ["fair-esm", "ours"], [pass_through(theirs, tokens - 1, repr_layers=[shape.n_layers])]
    calls.append(pass_through(ours, tokens))
    if options.compile:
        compiled = Backbone.__new__(Backbone)
        compiled.__dict__.update(ours.__dict__)
        compiled.compile_layers()
        names, calls = [*names, "ours, compiled"], [*calls, pass_through(compiled, tokens)]
    matmul_s, *passes_s = best_of_turns([matmul, *calls], device, options.rounds)
    rate = matmul_operations / matmul_s
    where = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {torch.get_num_threads()} threads"
    )
    print(f"torch {torch.__version__}, {where}; matmul in {options.precision}: {rate / 1e12:.2f} TFLOP/s")
    print(f"{options.backbone}, {options.batch} sequences of {options.length} tokens:")
    operations = n_operations(shape, options.batch, options.length)
    for name, pass_s in zip(names, passes_s, strict=True):
        print(
            f"  {name}: {tokens.numel() / pass_s:,.0f} tokens/s, {passes_s[0] / pass_s:.2f} times fair-esm's, "
            f"{operations / pass_s / rate:.0%} of the matmul rate"
        )


if __name__ == "__main__":
    main()
