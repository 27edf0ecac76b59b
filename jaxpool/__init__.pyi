from .arch import Arch
from .batch import Batch, pad
from .llm import LLM
from .loading import load
from .model import Model
from .outputs import (
    ClassificationOutput,
    ClassificationRequestOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from .prompts import PromptType, TextPrompt, TokensPrompt
from .requests import LateChunkingParams, PoolerConfig, PoolingParams
from .similarity import maxsim, maxsim_pairwise
from .sparse import sparse_weights
from .transformer import forward

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
    "sparse_weights",
]
