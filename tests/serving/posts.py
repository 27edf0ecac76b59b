"""Requests to /v1/embeddings, for the tests of what embeds."""

import numpy as np

TEXT = "The capital of France is Paris."
LONG = "word " * 300


def embed(server, input, status=200, **body):
    response = server.post("/v1/embeddings", {"input": input, **body})
    assert response.status_code == status, response.text
    return response


def vectors(server, input, **body):
    data = embed(server, input, **body).json()["data"]
    return np.array([one["embedding"] for one in data])


def tokens(server, input, **body):
    return embed(server, input, **body).json()["usage"]["prompt_tokens"]


def message(server, input, **body):
    error = embed(server, input, 400, **body).json()["error"]
    return error["message"]


def cosine(a, b):
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)
