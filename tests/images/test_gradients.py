"""Gradients through a vision tower, by its parameters and by pixels, are those of torch."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxpool
from jaxpool.engine import planner
from jaxpool.engine.batch import Request
from jaxpool.nn.transformer import forward
from tests.images import models
from tests.images.photos import photo


def test_siglip(towers):
    """Patches as a caller's own floats give what bytes give, and can be searched for."""
    model = jaxpool.load(str(towers("siglip")), data_parallel_size=1)
    image, side = photo(70, 90), model.processor.patch
    request = Request(np.zeros(1, np.int32), picture=model.processor(image))
    (length,) = model.picture_engine.buckets
    (plan,) = planner.plan([length], (length,), 512)
    batch, _ = model.picture_engine.fill((), plan, [request])
    pixels = jnp.asarray(batch.pixels, jnp.float32)
    weights = np.random.default_rng(0).normal(size=(length, model.arch.vision.dim))
    weights = weights.astype(np.float32)

    def loss(params, pixels):
        hidden = forward(params, batch._replace(pixels=pixels), model.arch)[0]
        return jnp.sum(hidden * weights), hidden

    found = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, hidden), (by_params, by_pixels) = found(model.params, pixels)
    np.testing.assert_allclose(hidden, forward(model.params, batch, model.arch)[0], atol=1e-6)
    reference = models.Reference(towers("siglip"), "siglip")
    values = reference.processor(image, return_tensors="pt")["pixel_values"].requires_grad_()
    tower = reference.model.vision_model
    wanted = tower(pixel_values=values).last_hidden_state[0]
    near(hidden, wanted.detach().numpy())
    (wanted * torch.tensor(weights)).sum().backward()
    kernel = tower.embeddings.patch_embedding.weight.grad.numpy().transpose(2, 3, 1, 0)
    near(by_params["vision"]["embed"]["patch"]["kernel"], kernel)
    # A value of torch's is a pixel scaled and normalized.
    rows = values.shape[-1] // side
    patches = values.grad.numpy().reshape(3, rows, side, rows, side).transpose(1, 3, 2, 4, 0)
    near(by_pixels[0] / (1 / 255 / 0.5), patches.reshape(by_pixels[0].shape))


def near(found, wanted) -> None:
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(found, wanted, atol=2e-4 * np.abs(wanted).max())
