"""What training costs beside arithmetic: `fit` of a CNN over the loop that a user would write around the same model.

    [FLIPSEARCH_DATA=...] python tests/benchmarks/bench_fit.py
    FLIPSEARCH_DATA=... python tests/benchmarks/bench_fit.py --pairs 3 --epochs 10 --threads 1 --device cuda

Both train the same model on the same batches of `gb1_three_vs_rest` for the same epochs, validate after each one, keep
the best weights and predict the validation rows with them at the end; what is read and tokenised beforehand counts in
both. The plain loop does no more than that. They run in turn, and what is compared is CPU time, with the time that the
parts of a pair take on a clock in brackets: other work on the machine changes both alike. On a GPU the clock counts.
Both have to find the same validation values, bit for bit, or the benchmark ends with an error.
"""

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from models.metrics import spearman
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.build import build_data, build_model, folds_of
from search.training.fit import fit
from search.training.memory import eval_tokens

TASK = "gb1_three_vs_rest" if os.environ.get("FLIPSEARCH_DATA") else "synthetic_two_vs_rest"
CASES = ((43, 256), (43, 64), (24, 32))  # channels, rows of a batch
LIMIT = 1.2

Values = list[float]


def run_of(channels: int, batch_size: int, n_threads: int, n_epochs: int, device: str) -> RunConfig:
    words = [f"task={TASK}", "model=cnn", f"model.channels={channels}", f"data.batch_size={batch_size}"]
    words += [f"trainer.threads={n_threads}", f"trainer.max_epochs={n_epochs}", "trainer.patience=1000000"]
    words += ["validation=holdout", f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}"]
    return study_config(words).run({})


def by_fit(config: RunConfig, split: PreparedSplit, places: Places) -> Values:
    """The validation Spearman of each epoch, and that of the predictions of the best one."""
    with tempfile.TemporaryDirectory() as folder:
        result = fit(config, split, places=places, directory=Path(folder), report=lambda fold, epoch, value: None)
    assert result.value is not None
    return [*map(float, result.values[0]), result.value]  # type: ignore[arg-type]


def by_plain_loop(config: RunConfig, split: PreparedSplit, device: str) -> Values:
    """The same, by forward, loss, backward and step."""
    assert config.trainer.threads is not None
    torch.set_num_threads(config.trainer.threads)
    fold = folds_of(config, split)[0]
    model = build_model(config)
    data = build_data(config, split, model, fold, 0)
    memory = model.memory(config.trainer.precision)
    if memory is not None:
        data.eval_tokens = eval_tokens(None, longest=data.longest, batch_size=config.data.batch_size)
    model.to(device)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    data.move(torch.device(device))
    training, validation = data.training_batches(), data.val_dataloader()
    values, best, best_weights = [], float("-inf"), None

    def validate() -> float:
        model.eval()
        with torch.no_grad():
            found = [(model(batch), batch.target) for batch in validation]
        model.train()
        return spearman(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    for epoch in range(config.trainer.max_epochs):
        training.sampler.set_epoch(epoch)
        for batch in training:
            optimizer.zero_grad()
            loss = functional.mse_loss(model(batch), batch.target)
            loss.backward()
            if config.trainer.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.trainer.gradient_clip)
            optimizer.step()
        values.append(validate())
        if values[-1] > best:
            best, best_weights = values[-1], copy.deepcopy(model.state_dict())
    assert best_weights is not None
    model.load_state_dict(best_weights)
    return [*values, validate()]


def timed(work: Callable[[], Values]) -> tuple[float, float, Values]:
    """CPU seconds, seconds on a clock, and what came of it."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    values = work()
    return time.process_time() - cpu_s, time.perf_counter() - began_s, values


def compare(config: RunConfig, split: PreparedSplit, places: Places, n_pairs: int, device: str) -> str:
    """Run both `n_pairs` times in turn, after once each that does not count; a line of ratios."""
    plain_loop, whole = (lambda: by_plain_loop(config, split, device)), (lambda: by_fit(config, split, places))
    ratios, clock_ratios, plain_s, fit_s = [], [], [], []
    for pair in range(n_pairs + 1):
        plain, ours = timed(plain_loop), timed(whole)
        if plain[2] != ours[2]:
            raise AssertionError(f"{config.model}: fit and the plain loop differ: {ours[2]} and {plain[2]}")
        if pair > 0:
            ratios.append(ours[0] / plain[0])
            clock_ratios.append(ours[1] / plain[1])
            plain_s.append(plain[0])
            fit_s.append(ours[0])
    counted = clock_ratios if device == "cuda" else ratios
    median = statistics.median(counted)
    return (
        f"{config.trainer.max_epochs} epochs, plain {min(plain_s):.2f} s, fit {min(fit_s):.2f} s of CPU time; "
        f"ratio {median:.2f} ({min(counted):.2f} to {max(counted):.2f}; clock {statistics.median(clock_ratios):.2f}): "
        f"{'met' if median <= LIMIT else 'MISSED'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {TASK}, fit over a plain loop, {options.pairs} pairs; target {LIMIT}")
    with tempfile.TemporaryDirectory() as cache_dir:
        split = prepare(find_task(TASK), data_dir=None, cache_dir=Path(cache_dir), announce=lambda _: None)
        places = Places(weights_dir=Path(cache_dir) / "weights", cache_dir=Path(cache_dir) / "cache")
        for n_threads in options.threads:
            for channels, batch_size in CASES:
                config = run_of(channels, batch_size, n_threads, options.epochs, options.device)
                line = compare(config, split, places, options.pairs, options.device)
                print(f"{channels} channels, batches of {batch_size}, {n_threads} thread(s): {line}", flush=True)


if __name__ == "__main__":
    main()
