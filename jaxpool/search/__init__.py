"""What vectors are made for: exact search, hard negatives, near duplicates, clusters."""

from jaxpool.search.clusters import community_detection, deduplicate, kmeans
from jaxpool.search.exact import Hits, rescore, semantic_search, top_k
from jaxpool.search.mining import mine_hard_negatives
from jaxpool.search.negatives import hard_negatives

__all__ = [
    "Hits",
    "community_detection",
    "deduplicate",
    "hard_negatives",
    "kmeans",
    "mine_hard_negatives",
    "rescore",
    "semantic_search",
    "top_k",
]
