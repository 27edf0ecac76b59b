"""One model of each kind for a session."""

import pytest

from tests.images import models


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """`towers(kind)`: the folder of a small random model, made once."""
    made = {}

    def find(kind):
        if kind not in made:
            made[kind] = models.save(tmp_path_factory.mktemp(kind) / kind, kind)
        return made[kind]

    return find


@pytest.fixture(scope="session")
def loaded(towers):
    """`loaded(kind)`: the same as an LLM, made once."""
    import jaxpool

    made = {}

    def find(kind):
        if kind not in made:
            made[kind] = jaxpool.LLM(str(towers(kind)), data_parallel_size=1)
        return made[kind]

    return find
