"""What a run needs in memory, estimated before anything is built."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes: `fixed` whatever the batch is (weights, gradients, the optimizer's state), and for each token of a
    padded batch in training and in evaluation.
    """

    fixed: int
    per_token: int
    per_eval_token: int


def transformer_memory(
    *,
    width: int,
    n_frozen: int,
    n_trained: int,
    n_layers_kept: int,
    is_checkpointed: bool,
    bytes_per_value: float,
    n_materialised: int = 0,
    n_cast: int = 0,
    has_pooled_features: bool = False,
) -> Memory:
    """Estimate for a transformer encoder of feed-forward width 4 D, trained with Adam.

    Args:
        width: D.
        n_frozen: parameters that are held but not trained, float32.
        n_trained: trained parameters, float32: themselves, their gradient and Adam's two moments.
        n_layers_kept: layers whose activations the backward pass needs.
        is_checkpointed: only each layer's input is kept, and one layer computed again at a time.
        bytes_per_value: of an activation, 4 in float32; about 3 under bfloat16 autocast, which keeps the residual
            stream and the normalisations in float32.
        n_materialised: values computed from parameters in each step and kept, as LoRA's weights are.
        n_cast: parameters of which a copy in two bytes is kept in each step.
        has_pooled_features: nothing but a head is trained, on one vector a sequence.
    """
    # In, out and norms of both blocks (6 D), queries, keys, values and their outputs (4 D), two feed-forward
    # activations (8 D), and a margin of 2 D for what lives shortly. Attention itself keeps no (L, L) matrix.
    layer = int(20 * width * bytes_per_value)
    kept = n_layers_kept * 4 * width + layer if is_checkpointed else max(1, n_layers_kept) * layer
    fixed = 4 * n_frozen + 16 * n_trained + 4 * n_materialised + 2 * n_cast
    return Memory(fixed=fixed, per_token=1 if has_pooled_features else kept, per_eval_token=layer)
