"""Pooling models (embedding, classification, scoring, reward) on TPU, GPU and CPU with JAX."""

import os

# transformers reads configurations and tokenizers here; its advice to install torch is no use.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from jaxpool.arch import Arch
from jaxpool.batch import Batch, pad
from jaxpool.llm import LLM
from jaxpool.model import Model, load
from jaxpool.outputs import (
    ClassificationOutput,
    ClassificationRequestOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from jaxpool.prompts import PromptType, TextPrompt, TokensPrompt
from jaxpool.requests import LateChunkingParams, PoolerConfig, PoolingParams
from jaxpool.similarity import maxsim, maxsim_pairwise
from jaxpool.transformer import forward

__all__ = [
    "LLM",
    "Arch",
    "Batch",
    "ClassificationOutput",
    "ClassificationRequestOutput",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "LateChunkingParams",
    "Model",
    "PoolerConfig",
    "PoolingOutput",
    "PoolingParams",
    "PoolingRequestOutput",
    "PromptType",
    "ScoringOutput",
    "ScoringRequestOutput",
    "TextPrompt",
    "TokensPrompt",
    "forward",
    "load",
    "maxsim",
    "maxsim_pairwise",
    "pad",
]
