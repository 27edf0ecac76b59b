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
    """A loss of columns of vectors `[C, B, F]`, labels and a mask `[B]`.

    columns: how many texts an example has, at least and at most; labels: whether it has a label;
    task: what the model does with a text. With "classify" a column is the logits of the first text
    with another, and with "token_embed" the vectors of tokens, `[C, B, T, F]`, mask `[C, B, T]`.
    lists: each text after the first has a label of its own; guide: labels are the vectors that
    another model gives the texts, `[B, C, G]`; distinct: a text twice in a batch would be its own
    negative.
    """

    call: Callable[..., jax.Array]
    columns: tuple[int, int | None]
    labels: bool = False
    task: str = "embed"
    lists: bool = False
    guide: bool = False
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
        if labels is None:
            return
        if self.lists and labels.shape[1:] != (len(columns) - 1,):
            count = labels.shape[1] if labels.ndim == 2 else 1
            raise ValueError(
                f"{name}: wanted a label of each of {len(columns) - 1} documents, found {count}"
            )
        known = np.unique(labels[~np.isnan(labels)] if labels.dtype.kind == "f" else labels)
        if len(known) < 2:
            raise ValueError(f"{name}: all labels are {known[0]}: nothing to tell apart")


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


def _splade(x, labels, mask, document_weight=3e-5, query_weight=5e-5, scale=1.0, **options):
    documents, there = x[1:].reshape(-1, x.shape[-1]), jnp.tile(mask, len(x) - 1)
    regular = query_weight * losses.splade_flops(x[0], mask=mask)
    regular += document_weight * losses.splade_flops(documents, mask=there)
    return _info_nce(x, labels, mask, scale=scale, cosine=False, **options) + regular


def _gist(x, labels, mask, **options):
    hard = {} if len(x) < 3 else {"negatives": x[2], "guide_negatives": labels[:, 2]}
    return losses.gist(x[0], x[1], labels[:, 0], labels[:, 1], mask=mask, **hard, **options)


def _late_interaction(x, labels, mask, **options):
    documents, tokens = (part[1:].reshape(-1, *part.shape[2:]) for part in (x, mask))
    there = jnp.any(tokens, axis=1)
    return losses.maxsim_info_nce(x[0], documents, mask[0], tokens, mask=there, **options)


def _bce(x, labels, mask, **options):
    return losses.bce(x[0, :, 0], labels, mask=mask, **options)


def _cross_entropy(x, labels, mask, **options):
    return losses.cross_entropy(x[0], labels, mask=mask, **options)


def _ranking_margin(x, labels, mask, **options):
    return losses.ranking_margin(x[0, :, 0], x[1, :, 0], mask=mask, **options)


def _list(loss, x, labels, mask, **options):
    """A label that is not a number says that a list has ended."""
    there = mask[:, None] & ~jnp.isnan(labels)
    return loss(x[..., 0].T, jnp.where(there, labels, 0.0), mask=there, **options)


labelled = partial(Objective, columns=(2, 2), labels=True)
logits = partial(Objective, task="classify")
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
    "gist": Objective(_gist, (2, 3), guide=True, distinct=True),
    "splade": Objective(_splade, (2, None), task="sparse", distinct=True),
    "late_interaction": Objective(_late_interaction, (2, None), task="token_embed", distinct=True),
    "bce": logits(_bce, (1, 2), labels=True),
    "cross_entropy": logits(_cross_entropy, (1, 2), labels=True),
    "ranking_margin": logits(_ranking_margin, (3, 3)),
    "list_net": logits(partial(_list, losses.list_net), (2, None), labels=True, lists=True),
    "lambda_rank": logits(partial(_list, losses.lambda_rank), (2, None), labels=True, lists=True),
}


def objective(name: str) -> Objective:
    """A loss by its name; ValueError with all names for another."""
    if name not in OBJECTIVES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
