"""Pooling models (embedding, classification, scoring, reward) on TPU, GPU and CPU with JAX."""

from jaxpool.arch import Arch
from jaxpool.batch import Batch, pad
from jaxpool.llm import LLM
from jaxpool.model import Model, load
from jaxpool.requests import PoolerConfig, PoolingParams
from jaxpool.transformer import forward

__all__ = [
    "LLM",
    "Arch",
    "Batch",
    "Model",
    "PoolerConfig",
    "PoolingParams",
    "forward",
    "load",
    "pad",
]
