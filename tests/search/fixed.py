"""A model in the shape of sentence-transformers' that looks vectors up by text."""

import numpy as np


class Fixed:
    """`table`: the vector of each text."""

    device, similarity_fn_name = "cpu", "cosine"

    def __init__(self, table):
        self.table, self.asked = table, []

    def encode_query(self, texts, **options):
        self.asked.append(options)
        return np.stack([self.table[text] for text in texts])

    encode_document = encode_query

    @staticmethod
    def similarity(a, b):
        from sentence_transformers.util import cos_sim

        return cos_sim(a, b)

    @staticmethod
    def similarity_pairwise(a, b):
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(a, b)

    def predict(self, pairs, **options):
        import torch

        return torch.tensor([float(self.table[a][:4] @ self.table[b][:4]) for a, b in pairs])
