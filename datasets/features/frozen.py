"""Frozen features: each distinct sequence passes through an encoder once, for all trials, workers and studies."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from datasets.features.addresses import Sequences
from datasets.features.cache import FeatureCache
from datasets.features.call import FeatureCall, OnProgress
from datasets.features.encoder import Encoder, Features, Scope
from datasets.features.pooled import PooledFeatures
from datasets.features.tokens import TokenFeatures
from datasets.task import Announce

__all__ = ["Encoder", "FeatureCache", "Features", "PooledFeatures", "Scope", "TokenFeatures", "frozen_features"]


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
    call = FeatureCall(encoder, sequences, scope, cache, announce, on_progress)
    return call.tokens(also) if scope == "tokens" else call.pooled(also)
