"""Small models of each task, for corpora."""

import pytest

from tests.serving import checkpoints


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The folder of a random embedder of two narrow layers; texts of up to 96 tokens."""
    return str(checkpoints.embedder(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """The folder of a random classifier of three named classes."""
    return str(checkpoints.classifier(tmp_path_factory.mktemp("classifier")))


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory):
    """The folder of a random cross-encoder."""
    return str(checkpoints.cross_encoder(tmp_path_factory.mktemp("cross_encoder")))


@pytest.fixture(scope="session")
def tagger(tmp_path_factory):
    """The folder of a random classifier of tokens."""
    return str(checkpoints.tagger(tmp_path_factory.mktemp("tagger")))


@pytest.fixture(scope="session")
def splade(tmp_path_factory):
    """The folder of a random sparse encoder."""
    return str(checkpoints.splade(tmp_path_factory.mktemp("splade")))


@pytest.fixture(scope="session")
def embedder(toy):
    """An embedder of the toy model that keeps no other columns."""
    from jaxpool import Embedder

    return Embedder(toy, keep=[])
