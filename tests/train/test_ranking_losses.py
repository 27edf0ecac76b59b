"""The losses of cross-encoders beside sentence-transformers': lists of several sizes, ties."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sentence_transformers.cross_encoder import CrossEncoder
from sentence_transformers.cross_encoder import losses as pair_losses

from jaxpool.train import losses
from tests.train.test_losses import BINARY, ROWS, Q, check, vectors


class Logits(CrossEncoder):
    """A cross-encoder whose scores are given: pairs are ("query i", "document j")."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self, scores):
        torch.nn.Module.__init__(self)
        self.given = scores

    def preprocess(self, pairs, **options):
        return {"pairs": pairs}

    def forward(self, inputs):
        rows = [tuple(int(text) for text in pair) for pair in inputs["pairs"]]
        return {"scores": torch.stack([self.given[row] for row in rows])[:, None]}


LISTS = (4, 1, 3, 5)
LOGITS = vectors(len(LISTS), 5)
LOGITS[0, 1] = LOGITS[0, 2]  # a tie of scores, of equal grades
LABELS = np.float32([[3, 1, 1, 0, 9], [2, 9, 9, 9, 9], [0, 2, 1, 9, 9], [0, 0, 1, 4, 1]])
THERE = np.arange(5) < np.array(LISTS)[:, None]


def listed(make):
    def reference(logits):
        loss = make(Logits(logits))
        queries = [str(i) for i in range(len(LISTS))]
        documents = [[str(j) for j in range(n)] for n in LISTS]
        labels = [torch.tensor(row[:n]) for row, n in zip(LABELS, LISTS, strict=True)]
        return loss((queries, documents), labels)

    return reference


SCHEMES = {
    "ndcg2++": pair_losses.NDCGLoss2PPScheme,
    "lambda_rank": pair_losses.LambdaRankScheme,
    "ndcg2": pair_losses.NDCGLoss2Scheme,
    "none": pair_losses.NoWeightingScheme,
}


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_lambda_rank(scheme, k):
    made = listed(lambda model: pair_losses.LambdaLoss(model, SCHEMES[scheme](), k=k))
    options = {"scheme": scheme, "k": k, "mask": THERE}
    check(lambda logits: losses.lambda_rank(logits, LABELS, **options), made, (LOGITS,))


def test_list_net():
    made = listed(pair_losses.ListNetLoss)
    check(lambda logits: losses.list_net(logits, LABELS, mask=THERE), made, (LOGITS,))


def test_binary_cross_entropy():
    def reference(logits):
        pairs = [str(i) for i in range(ROWS)]
        loss = pair_losses.BinaryCrossEntropyLoss(
            Logits(logits[:, None]), pos_weight=torch.tensor(2.0)
        )
        return loss((pairs, ["0"] * ROWS), torch.tensor(BINARY))

    check(lambda x: losses.bce(x, BINARY, positive_weight=2.0), reference, (4 * Q[:, 0],))


@pytest.mark.parametrize("labels", [np.int32([2, 0, 1, 1, 2, 0]), np.abs(vectors(ROWS, 3))])
def test_cross_entropy(labels):
    wanted = torch.tensor(labels.astype(np.int64) if labels.ndim == 1 else labels)
    reference = lambda x: torch.nn.CrossEntropyLoss()(x, wanted)  # noqa: E731
    check(lambda x: losses.cross_entropy(x, jnp.asarray(labels)), reference, (vectors(ROWS, 3),))
