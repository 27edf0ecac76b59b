from .engine.batch import Batch, pad
from .heads.similarity import maxsim, maxsim_pairwise
from .jobs.embedder import Embedder
from .llm import LLM
from .loading import load
from .loras import LoRARequest
from .model import Model
from .nn.arch import Arch
from .nn.transformer import forward
from .tasks.outputs import (
    ClassificationOutput,
    ClassificationRequestOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from .tasks.pooling_params import LateChunkingParams, PoolerConfig, PoolingParams
from .tasks.sparse import sparse_weights
from .text.prompts import PromptType, TextPrompt, TokensPrompt

__all__ = [
    "LLM",
    "Arch",
    "Batch",
    "ClassificationOutput",
    "ClassificationRequestOutput",
    "Embedder",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "LateChunkingParams",
    "LoRARequest",
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
