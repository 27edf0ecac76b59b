"""`ModelConfig`: the facts of a loaded model, under vLLM's names."""

from dataclasses import dataclass
from typing import Any

from jaxpool.errors import RequestError
from jaxpool.tasks.pooling_params import PoolerConfig
from jaxpool.tasks.resolve import FILES


@dataclass(frozen=True)
class ModelConfig:
    """What a model is: its sizes, dtypes, limits and pooling."""

    model: str
    served_model_name: str
    hf_config: Any
    architectures: list[str]
    max_model_len: int
    dtype: str
    head_dtype: str
    embedding_size: int
    attn_type: str
    pooler_config: PoolerConfig
    is_matryoshka: bool  # leading features of an embedding are an embedding (arXiv 2205.13147)

    @property
    def id2label(self) -> dict[int, str]:
        """The names of a classifier's classes."""
        return self.hf_config.id2label

    @property
    def matryoshka_dimensions(self) -> list[int] | None:
        """The sizes a Matryoshka model was trained to be cut to, where the checkpoint says."""
        return getattr(self.hf_config, "matryoshka_dimensions", None) or None

    def check_dimensions(self, dimensions: int) -> None:
        """Refuse a size that this model's embeddings cannot be cut to."""
        name, size, allowed = (
            self.served_model_name,
            self.embedding_size,
            self.matryoshka_dimensions,
        )
        if not self.is_matryoshka:
            raise RequestError(
                f"Model {name!r} does not support Matryoshka embeddings; dimensions must be unset "
                f"(received dimensions={dimensions})."
            )
        if not 1 <= dimensions <= size:
            raise RequestError(
                f"Model {name!r} only supports dimensions in range [1, {size}], got {dimensions}."
            )
        if allowed is not None and dimensions not in allowed:
            raise RequestError(
                f"Model {name!r} only supports Matryoshka dimensions {allowed}, got {dimensions}."
            )


def model_config(model) -> ModelConfig:
    """The `ModelConfig` of a loaded model."""
    embed = model.tasks.get("embed") or model.tasks.get("token_embed")
    config, dim = model.checkpoint.config, model.arch.dim
    named = ("matryoshka_dimensions", "is_matryoshka")
    saved = model.resolution.origins.get("dimensions") == FILES  # its authors cut it
    return ModelConfig(
        model=model.name,
        served_model_name=model.name,
        hf_config=config,
        architectures=list(config.architectures or []),
        max_model_len=model.max_length,
        dtype=model.arch.dtype,
        head_dtype="float32",
        embedding_size=embed.width(dim) if embed else dim,
        attn_type="decoder" if model.arch.causal else "encoder_only",
        pooler_config=model.pooler_config,
        is_matryoshka=saved or any(getattr(config, name, None) for name in named),
    )
