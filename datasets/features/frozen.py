"""Frozen features: each distinct sequence passes through an encoder once, for all trials, workers and studies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from datasets.features.addresses import Sequences
from datasets.features.cache import FeatureCache
from datasets.features.encoder import Encoder, Features, PooledFeatures, Scope
from datasets.features.segment import SegmentIndex, file_bytes, raw
from datasets.features.sinks import SEGMENT_BYTES, Sink, States, Writer, fill, gigabytes
from datasets.features.tokens import TokenFeatures, encoded, read_back
from datasets.task import Announce

__all__ = ["Encoder", "FeatureCache", "Features", "PooledFeatures", "Scope", "TokenFeatures", "frozen_features"]

OnProgress = Callable[[int, int], None]
_BY_PRODUCT = 0.25  # of the cache may be taken by tokens that nobody asked for


def frozen_features(
    encoder: Encoder,
    tokens: Tensor,
    mask: Tensor,
    region: Tensor,
    *,
    scope: Scope,
    cache: FeatureCache,
    announce: Announce,
    on_progress: OnProgress,
    also: Sequence[Scope] | None = None,
) -> Features:
    """Return the features of N rows: what the cache holds is read, the rest computed and kept.

    A sequence's features are the same bits whatever it is computed with, cached or not. Pooled ones are float32
    means of the encoder's output in `encoder.dtype`, in that type, and held in memory; tokens stay in mapped files.

    Args:
        encoder: Its errors, out of memory for one, are let out.
        tokens: (N, T) any integer type, 0 at padding, on the CPU.
        mask: (N, T) bool, False at padding.
        region: (N, T) bool, what the scope "region" averages over.
        scope: What is asked for.
        cache: Where features are shared. What does not fit or cannot be written is announced and not kept.
        announce: Takes a sentence for the user.
        on_progress: Takes (distinct sequences done, those of the call), while features are computed.
        also: Scopes to keep from the same pass, as far as they fit. None: with a pooled scope the other one, and
            the tokens if they take less than a quarter of the cache; with "tokens" nothing.

    Raises:
        UserError: A row has no residue in its region and scope is "region".
        ValueError: Shapes differ, or a row has no residue.
    """
    sequences = Sequences(encoder, tokens, mask, region)
    if scope == "region":
        sequences.check_region()
    call = _Call(encoder, sequences, scope, cache, announce, on_progress)
    return call.tokens(also) if scope == "tokens" else call.pooled(also)


class _Call:
    """One call for the features of `sequences` in `scope`: look up, lock, look again, compute the rest for all scopes
    worth keeping.
    """

    def __init__(
        self,
        encoder: Encoder,
        sequences: Sequences,
        scope: Scope,
        cache: FeatureCache,
        announce: Announce,
        on_progress: OnProgress,
    ) -> None:
        self._encoder, self._sequences, self._scope = encoder, sequences, scope
        self._cache, self._announce, self._on_progress = cache, announce, on_progress
        self._addresses = sequences.addresses(scope)
        self._writer = Writer(cache, encoder, scope, announce)

    def tokens(self, also: Sequence[Scope] | None) -> TokenFeatures:
        """Return features of all tokens; the scope is "tokens"."""
        located = self._writer.protect(self._look_up("tokens"))
        n_computed = 0
        if len(located.missing):
            with self._lock(otherwise="computed each time they are used"):
                if not self._writer.is_stopped:
                    self._look_up("tokens", located)
                    sink = Sink(self._sequences, "tokens", located.missing, self._writer, located=located)
                    n_computed = self._encode([sink, *self._by_products(also)])
        return TokenFeatures(self._encoder, self._sequences, located, n_computed=n_computed)

    def pooled(self, also: Sequence[Scope] | None) -> PooledFeatures:
        """Return pooled features; the scope is "mean" or "region"."""
        values = torch.empty((len(self._addresses), self._encoder.width), dtype=self._encoder.dtype)
        located = self._writer.protect(self._look_up(self._scope))
        located.read_rows(np.arange(len(values)), raw(values))
        n_computed = 0
        missing = located.missing
        if len(missing):
            with self._lock(otherwise="computed and not kept"):
                self._look_up(self._scope, located)
                located.read_rows(missing, raw(values))
                sink = Sink(self._sequences, self._scope, located.missing, self._writer, values=values)
                by_products = self._by_products(also)
                self._derive(sink)
                n_computed = self._encode([sink, *by_products])
        if len(values) < len(self._addresses.entry):
            values = values[torch.from_numpy(self._addresses.entry)]
        return PooledFeatures(values=values, n_computed=n_computed)

    def _look_up(self, scope: Scope, found: SegmentIndex | None = None) -> SegmentIndex:
        hashes = self._sequences.addresses(scope).hashes
        return self._cache.look_up(self._encoder, scope, hashes, self._announce, found)

    @contextlib.contextmanager
    def _lock(self, *, otherwise: str) -> Iterator[None]:
        """Hold the lock where the features are to be kept at all, which the writer then knows."""
        n_bytes = self._n_bytes(self._scope)
        with contextlib.ExitStack() as stack:
            if n_bytes > self._cache.max_bytes:
                self._writer.is_stopped = True
                self._announce(
                    f"Features of {len(self._addresses)} sequences take {gigabytes(n_bytes)} and the cache "
                    f"{gigabytes(self._cache.max_bytes)} at most (cache.max_gb): they are {otherwise}."
                )
            else:
                try:
                    stack.enter_context(self._cache.building(self._encoder, self._announce))
                except OSError as error:
                    self._writer.stop(error)
            yield

    def _by_products(self, also: Sequence[Scope] | None) -> list[Sink]:
        """Return sinks for what else is worth keeping of the sequences that are passed through the encoder."""
        scopes: Sequence[Scope] = ("mean", "region", "tokens") if self._scope != "tokens" else ()
        n_free = self._cache.max_bytes - self._n_bytes(self._scope)
        sinks = []
        for scope in dict.fromkeys(scopes if also is None else also):
            n_bytes = self._n_bytes(scope)
            limit = self._cache.max_bytes * _BY_PRODUCT if also is None and scope == "tokens" else np.inf
            if scope == self._scope or self._writer.is_stopped or n_bytes > n_free or n_bytes >= limit:
                continue
            n_free -= n_bytes
            missing = self._look_up(scope).missing
            if scope != "tokens":
                missing = missing[self._sequences.has_positions(scope)[missing]]
            sinks.append(Sink(self._sequences, scope, missing, self._writer))
        return sinks

    def _derive(self, sink: Sink) -> None:
        """Pool what stands among the tokens already."""
        located = self._writer.protect(self._look_up("tokens"))
        at_hand = np.setdiff1d(sink.wanted, located.missing)
        fill([sink], read_back(located, self._encoder, self._sequences, at_hand), lambda n: None)

    def _encode(self, sinks: Sequence[Sink]) -> int:
        """Pass what the first sink still wants through the encoder; return how many sequences that were."""
        numbers = sinks[0].wanted
        n_total = len(self._sequences.distinct)
        n_before = n_done = n_total - len(numbers)

        def count(n: int) -> None:
            nonlocal n_done
            n_done += n
            self._on_progress(n_done, n_total)

        if len(numbers):
            self._on_progress(n_done, n_total)
        states = encoded(self._encoder, self._sequences, numbers)
        fill(sinks, self._while_kept(states) if self._scope == "tokens" else states, count)
        return n_done - n_before

    def _while_kept(self, states: States) -> States:
        """Stop encoding once the cache accepts no more segments."""
        for batch in states:
            yield batch
            if self._writer.is_stopped:
                return

    def _n_bytes(self, scope: Scope) -> int:
        """Return what the files of all entries of a scope take."""
        addresses = self._sequences.addresses(scope)
        n_values = int(self._sequences.lengths[addresses.example].sum()) if scope == "tokens" else len(addresses)
        n_bytes = n_values * self._encoder.width * self._encoder.dtype.itemsize
        return file_bytes(len(addresses), n_bytes) + n_bytes // SEGMENT_BYTES * file_bytes(0, 0)
