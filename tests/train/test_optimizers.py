"""What is trained and how fast: AdamW beside torch's, rates by depth, patterns of names."""

import jax
import numpy as np
import optax
import pytest
import torch

from jaxpool.train.optimizers import accumulated, adamw, by_depth, divided, joined

RANDOM = np.random.default_rng(0)
TREE = {
    "embed": {"tokens": {"embedding": RANDOM.standard_normal((5, 4), np.float32)}},
    "layers": {
        "mlp": {
            "up": {
                "kernel": RANDOM.standard_normal((3, 4, 2), np.float32),
                "bias": RANDOM.standard_normal((3, 2), np.float32),
            }
        }
    },
    "heads": {"classifier": {"kernel": RANDOM.standard_normal((4, 2), np.float32)}},
}


def test_adamw_is_torch_s():
    """Warm-up, decay of kernels and of no bias, clipping by the norm of all."""
    leaves, treedef = jax.tree.flatten(TREE)
    theirs = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in leaves]
    bias = next(x for x in theirs if x.shape == (3, 2))
    groups = [
        {"params": [x for x in theirs if x is not bias], "weight_decay": 0.1},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, 0.01)
    ramp = lambda k: k / 2 if k < 2 else (6 - k) / 4  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    ours, params = adamw(0.01, 6, warmup=0.3, weight_decay=0.1, clip=1.0), TREE
    state, update = ours.init(params), jax.jit(ours.update)
    for _ in range(5):
        gradients = [RANDOM.standard_normal(leaf.shape, np.float32) for leaf in leaves]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        optimizer.step()
        schedule.step()
        with jax.numpy_dtype_promotion("standard"):
            updates, state = update(jax.tree.unflatten(treedef, gradients), state, params)
            params = optax.apply_updates(params, updates)
    for got, wanted in zip(jax.tree.leaves(params), theirs, strict=True):
        np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_rates_fall_with_depth():
    """Embeddings, the layers from below, and what is above them."""
    ones = jax.tree.map(np.ones_like, TREE)
    scaled, _ = by_depth(0.5).update(ones, optax.EmptyState())
    up = scaled["layers"]["mlp"]["up"]
    np.testing.assert_array_equal(up["kernel"][:, 0, 0], [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(up["bias"][:, 0], [0.25, 0.5, 1.0])
    assert np.all(scaled["embed"]["tokens"]["embedding"] == 0.125)
    assert np.all(scaled["heads"]["classifier"]["kernel"] == 1.0)


def test_accumulated_gradients_make_one_update_of_their_mean():
    params, optimizer = TREE["heads"], accumulated(optax.sgd(0.1), 2)
    state = optimizer.init(params)
    for gradient, change in ((1.0, 0.0), (3.0, -0.2)):
        given = jax.tree.map(lambda x, g=gradient: np.full_like(x, g), params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(given, state, params)
        for leaf in jax.tree.leaves(updates):
            np.testing.assert_allclose(leaf, change, rtol=1e-6)


def test_patterns_choose_what_is_trained():
    trained, frozen = divided(TREE, (r"heads\.", r".*\.bias"))
    assert set(trained) == {"heads", "layers"} and set(frozen) == {"embed", "layers"}
    assert set(trained["layers"]["mlp"]["up"]) == {"bias"}
    jax.tree.map(np.testing.assert_array_equal, joined(trained, frozen), TREE)
    with pytest.raises(ValueError, match="nothing to train: no parameter matches"):
        divided(TREE, ("mlp",))  # from the start of a name
