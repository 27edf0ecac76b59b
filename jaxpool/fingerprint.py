"""The fingerprint of an embedding space: a short hash of everything that decides a text's vector.

All vectors of an index must have the same fingerprint. It depends on the contents of files and on
settings, not on names: a copy of a model has the same one, a new revision another.
"""

import hashlib
import json


def fingerprint(
    checkpoint,
    resolution,
    dtype: str,
    quantization: str | None = None,
    prompt_name: str | None = None,
    ended: str | None = None,
    processor=None,
) -> str:
    """16 hexadecimal digits that change with the vectors of the default task.

    checkpoint: its tensors (a sample of each), tokenizer files, architecture and prompts;
    resolution: the pooling, what follows it, and the dimensions kept; dtype: of the parameters, as
    they are computed with; quantization: of the matrix products; prompt_name: the prompt of texts
    that come without one; ended: the token that was added to the end of each text;
    processor: what makes patches of pictures.
    """
    task = resolution.tasks[resolution.pooling_task]
    pipeline = checkpoint.pipeline
    facts = checkpoint.identity() | {
        "architecture": checkpoint.arch.switches(),
        "task": [task.name, repr(task.steps), repr(task.routes), task.activate],
        "dimensions": resolution.pooler_config.dimensions,
        "prompts": [pipeline.prompts, pipeline.default_prompt] if pipeline else None,
        "include_prompt": not pipeline or pipeline.include_prompt,
        "lower_case": checkpoint.lower_case,
        **_pictures(checkpoint, processor),
        "late_interaction": repr(checkpoint.late_interaction),
        "dtype": dtype,
        "quantization": quantization,
        "prompt_name": prompt_name,
        "ended": ended,
    }
    text = json.dumps(facts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pictures(checkpoint, processor) -> dict[str, str]:
    """What decides the vector of a picture, in models of pictures."""
    if processor is None:
        return {}
    return {"pictures": repr((checkpoint.picture_steps, processor))}
