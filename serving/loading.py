"""A model by the options of the command line: whole, or described, without a device."""

from typing import Any

import jaxpool
from serving.config import Options


def load_model(path: str, options: Options, name: str | None = None) -> Any:
    """`jaxpool.load` with the options of the command line, and a token budget that fits."""
    model = jaxpool.load(path, dtype=options.dtype, **_asked(options, name))
    if options.warmup != "none":
        model.engine.fit([model.task()])
    return model


def describe_model(path: str, options: Options, name: str) -> Any:
    """The same model without its weights: `jaxpool.loading.describe`."""
    from jaxpool.loading import describe

    return describe(path, **_asked(options, name))


def _asked(options: Options, name: str | None) -> dict[str, Any]:
    """What both are asked for."""
    return {
        "runner": options.runner,
        "convert": options.convert,
        "revision": options.revision,
        "max_model_len": options.max_model_len,
        "max_num_batched_tokens": options.max_num_batched_tokens,
        "hf_overrides": options.hf_overrides or None,
        "pooler_config": options.pooler_config or None,
        "quantization": options.quantization,
        "add_eos_token": options.add_eos_token,
        "batch_invariant": options.batch_invariant,
        "compiled": options.compiled,
        "tensor_parallel_size": options.tensor_parallel_size,
        "data_parallel_size": options.data_parallel_size,
        "distributed": options.distributed or False,
        "default_prompt_name": options.default_prompt_name,
        "served_model_name": name,
        "allowed_media_domains": options.allowed_media_domains,
        "allowed_local_media_path": options.allowed_local_media_path,
        "limit_mm_per_prompt": options.limit_mm_per_prompt,
        "mm_processor_kwargs": options.mm_processor_kwargs or None,
        "mm_processor_cache_gb": options.mm_processor_cache_gb,
        "enable_lora": options.enable_lora,
        "max_loras": max(options.max_loras, len(options.lora_modules)),
        "max_lora_rank": options.max_lora_rank,
    }
