"""jina-clip-v2: jina-embeddings-v3's text model beside EVA02's tower (arXiv 2412.08802).

As the code that its files point to (jinaai/jina-clip-implementation): a text is the mean of its
tokens, with the one adapter that the configuration names; a picture is its class token.
"""

from collections.abc import Mapping
from typing import Any

from converters.families import jina_v3
from converters.families.eva02 import VISION, vision_arch
from converters.family import Family, Head
from converters.joined import under
from converters.parametrized import Parametrized
from converters.report import CheckpointError
from jaxpool.heads.steps import Pool
from jaxpool.nn.arch import Arch

# What is read of config.json, and the only values that are implemented.
FIXED: dict[str, dict[str, Any]] = {
    "text_config": {"hf_model_name_or_path": "jinaai/jina-embeddings-v3", "proj_type": None}
    | {"pooler_type": "mean_pooler"},
    "vision_config": {"naive_swiglu": True, "subln": True, "rope_embeddings": True}
    | {"intp_freq": True, "post_norm": False, "ls_init_value": None, "proj_type": None},
}
# Those of the text model, whose own config.json the folder only points to.
V3 = dict(
    vocab_size=250002,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    max_position_embeddings=8194,
    type_vocab_size=1,
    layer_norm_eps=1e-5,
    pad_token_id=1,
    rotary_emb_base=20000.0,
    lora_rank=4,
    lora_alpha=1,
)
MEAN, CLASS = Pool(("mean",)), Pool(("cls",))


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the text model, and those of the tower beside them."""
    for part, fixed in FIXED.items():
        given = raw.get(part) or {}
        if wrong := {name: given.get(name) for name, x in fixed.items() if given.get(name) != x}:
            wanted = {name: fixed[name] for name in wrong}
            raise CheckpointError(f"config.json: {part} must have {wanted}, found {wrong}")
    text, vision = raw["text_config"], dict(raw["vision_config"])
    made = V3 | dict(text.get("hf_model_config_kwargs") or {})
    widths = text["embed_dim"], made["hidden_size"], vision["embed_dim"], vision["width"]
    if raw.get("add_projections") or len(set(widths)) > 1:
        raise CheckpointError(f"config.json: wanted one width and no projections, found {widths}")
    own = {name: raw[name] for name in ("architectures", "matryoshka_dimensions") if name in raw}
    return made | own | {"vision_config": vision, "lora_task": text.get("default_lora_task")}


def arch(config) -> Arch:
    """Both towers."""
    return jina_v3.arch(config).replace(vision=vision_arch(config.vision_config))


def derive(source, config):
    """The tensors with the adapter of texts merged; none where no task is named."""
    task, known = config.lora_task, getattr(config, "lora_adaptations", None) or []
    if task is not None and task not in known:
        raise CheckpointError(f"config.json: default_lora_task {task!r} is not one of {known}")
    number = None if task is None else known.index(task)
    return Parametrized(source, number, config.lora_alpha / config.lora_rank)


JINA_CLIP = Family(
    "JinaCLIP",
    arch,
    under("text_model.transformer.", jina_v3.NAMES) + VISION,
    heads={"Model": Head("embed", lambda *_: (MEAN,), "", pictures=lambda *_: (CLASS,))},
    renames=((r"^text_model\.transformer\.roberta\.", "text_model.transformer."),),
    ignored=(r"^logit_scale$", r"\.pooler\.", r"\.freqs_(cos|sin)$"),
    config="jina_embeddings_v3",
    derive=derive,
    aliases=jina_v3.JINA_FLASH.aliases,
    unfold=unfold,
    processor="JinaCLIP",
    examples=("jinaai/jina-clip-v2",),
)
