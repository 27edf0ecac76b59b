"""Losses by name for the trainer: which columns and labels each takes, and how it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.train import losses


@dataclass(frozen=True)
class Objective:
    """A loss of columns of vectors `[C, B, F]`, labels and a mask.

    columns: how many texts an example has, at least and at most; labels: whether it has a label;
    pairs: two texts are one input of the model (a cross-encoder); distinct: a text twice in a batch
    would be its own negative.
    """

    call: Callable[..., jax.Array]
    columns: tuple[int, int | None]
    labels: bool = False
    pairs: bool = False
    distinct: bool = False

    def check(self, name: str, columns: tuple[str, ...], labels: np.ndarray | None) -> None:
        """Raise ValueError where data do not fit the loss."""
        least, most = self.columns
        if len(columns) < least or (most is not None and len(columns) > most):
            wanted = f"{least}" if least == most else f"{least} to {most or 'any number'}"
            raise ValueError(f"{name}: wanted {wanted} columns of texts, found {columns}")
        if self.labels != (labels is not None):
            wanted, found = ("a label", "none") if self.labels else ("no label", "one")
            raise ValueError(f"{name}: wanted {wanted} beside {columns}, found {found}")
        if labels is not None and labels.dtype.kind not in "biuf":
            raise ValueError(f"{name}: wanted numbers as labels, found {labels.dtype}")
        if labels is not None and labels.ndim == 1 and len(np.unique(labels)) < 2:
            raise ValueError(f"{name}: all labels are {labels[0]}: nothing to tell apart")


def _info_nce(x, labels, mask, **options):
    hard = jnp.moveaxis(x[2:], 0, 1) if len(x) > 2 else None
    return losses.info_nce(x[0], x[1], negatives=hard, mask=mask, **options)


def _pair(loss, x, labels, mask, **options):
    return loss(x[0], x[1], labels.astype(jnp.float32), mask=mask, **options)


def _triplet(x, labels, mask, **options):
    return losses.triplet(x[0], x[1], x[2], mask=mask, **options)


def _margin_mse(x, labels, mask, **options):
    return losses.margin_mse(x[0], x[1], jnp.moveaxis(x[2:], 0, 1), labels, mask=mask, **options)


def _distill_kl(x, labels, mask, **options):
    return losses.distill_kl(x[0], jnp.moveaxis(x[1:], 0, 1), labels, mask=mask, **options)


def _embedding_mse(x, labels, mask, **options):
    return losses.embedding_mse(x[0], labels, mask=mask, **options)


def _splade(x, labels, mask, document_weight=3e-5, query_weight=5e-5, **options):
    """InfoNCE of dot products would overflow at a cosine's scale: sentence-transformers' is 1."""
    regular = query_weight * losses.splade_flops(x[0], mask=mask)
    for documents in x[1:]:
        regular += document_weight * losses.splade_flops(documents, mask=mask)
    return _info_nce(x, labels, mask, **options) + regular


def _bce(x, labels, mask, **options):
    return losses.bce(x[0, :, 0], labels, mask=mask, **options)


def _cross_entropy(x, labels, mask, **options):
    return losses.cross_entropy(x[0], labels, mask=mask, **options)


labelled = partial(Objective, columns=(2, 2), labels=True)
OBJECTIVES = {
    "info_nce": Objective(_info_nce, (2, None), distinct=True),
    "cosent": labelled(partial(_pair, losses.cosent)),
    "angle": labelled(partial(_pair, losses.angle)),
    "cosine_similarity_mse": labelled(partial(_pair, losses.cosine_similarity_mse)),
    "contrastive": labelled(partial(_pair, losses.contrastive)),
    "triplet": Objective(_triplet, (3, 3)),
    "margin_mse": Objective(_margin_mse, (3, None), labels=True),
    "distill_kl": Objective(_distill_kl, (3, None), labels=True),
    "embedding_mse": Objective(_embedding_mse, (1, 1), labels=True),
    "splade": Objective(_splade, (2, None), distinct=True),
    "bce": Objective(_bce, (2, 2), labels=True, pairs=True),
    "cross_entropy": Objective(_cross_entropy, (2, 2), labels=True, pairs=True),
}


def objective(name: str) -> Objective:
    """A loss by its name; ValueError with all names for another."""
    if name not in OBJECTIVES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
