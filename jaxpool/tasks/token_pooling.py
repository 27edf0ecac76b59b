"""Fewer token vectors a text: neighbours in direction are replaced by their mean.

Source: Clavié, Chaffin and Adams, arXiv 2409.14683; as sentence-transformers'
HierarchicalTokenPooling computes it.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenPooling:
    """One vector for about every `factor` of a text's.

    protected: leading tokens that stay as they are; normalize: whether what comes out has length 1;
    sides: whose vectors are pooled, of "query" and "document".
    """

    factor: float = 1.0
    protected: int = 1
    normalize: bool = False
    sides: tuple[str, ...] = ("document",)

    def gather(self, ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The vectors `[C, F]` of clusters of token vectors `[T, F]`, after the protected ones."""
        own, rest = np.split(vectors.astype(np.float32), [self.protected])
        count = max(int(len(rest) // self.factor), 1)
        if count < len(rest):
            owner = _clusters(rest, count)
            sizes = np.bincount(owner)[:, None]
            means = np.zeros((len(sizes), rest.shape[1]), np.float32)
            np.add.at(means, owner, rest)
            rest = (means / sizes).astype(np.float32)
        vectors = np.concatenate([own, rest])
        if not self.normalize:
            return vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _clusters(vectors: np.ndarray, count: int) -> np.ndarray:
    """Which of at most `count` clusters each vector is in, numbered from 0 without gaps."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - vectors @ vectors.T, 0, 2)
    tree = hierarchy.linkage(squareform(distance, checks=False), "ward")
    found = hierarchy.fcluster(tree, count, "maxclust")
    return np.unique(found, return_inverse=True)[1]
