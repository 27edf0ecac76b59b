"""Options of vLLM's engine, as scripts written for it pass them."""

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from jaxpool.engine.engine import EngineOptions
from jaxpool.images.media import MediaOptions

log = logging.getLogger("jaxpool")

# These have no meaning here; they are accepted and logged, so that scripts for vLLM run.
INERT = {
    "disable_log_stats",
    "enable_chunked_prefill",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "max_num_seqs",
    "model_impl",
    "seed",
    "swap_space",
    "tokenizer_mode",
}


def engine_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that `EngineOptions` or `MediaOptions` has; TypeError where one is not known."""
    known = {field.name for kind in (EngineOptions, MediaOptions) for field in fields(kind)}
    if unknown := sorted(set(given) - INERT - known):
        raise TypeError(f"LLM has no option {', '.join(unknown)}")
    if inert := sorted(set(given) & INERT):
        log.info("options without effect here: %s", ", ".join(inert))
    return {name: value for name, value in given.items() if name in known}
