"""Losses as pure functions of arrays: float32 inside, a scalar out, jit-able and differentiable.

`mask` (bool, a row each) says which rows are there: the others count nowhere, not as negatives
either. Where rows are split over a mesh, every row still meets the documents of all devices.
"""

from jaxpool.train.losses.embeddings import (
    angle,
    contrastive,
    cosent,
    cosine_similarity_mse,
    distill_kl,
    embedding_mse,
    margin_mse,
    matryoshka,
    triplet,
)
from jaxpool.train.losses.in_batch import gist, info_nce
from jaxpool.train.losses.ranking import (
    bce,
    cross_entropy,
    lambda_rank,
    list_net,
    ranking_margin,
)
from jaxpool.train.losses.vocabulary_and_tokens import maxsim_info_nce, splade_flops

__all__ = [
    "angle",
    "bce",
    "contrastive",
    "cosent",
    "cosine_similarity_mse",
    "cross_entropy",
    "distill_kl",
    "embedding_mse",
    "gist",
    "info_nce",
    "lambda_rank",
    "list_net",
    "margin_mse",
    "matryoshka",
    "maxsim_info_nce",
    "ranking_margin",
    "splade_flops",
    "triplet",
]
