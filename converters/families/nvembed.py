"""NV-Embed: Mistral without a causal mask, whose tokens attend to latents before their mean."""

from collections.abc import Mapping
from typing import Any

from converters.families.decoder import arch, decoder_names
from converters.family import Family, Head, dense, norm
from converters.report import CheckpointError
from jaxpool.heads.latents import LatentAttention
from jaxpool.nn.arch import Arch

OWN = ("hidden_dim", "latent_dim", "num_latents_value", "num_cross_heads", "cross_dim_head")


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its text model, and those of its latents beside them."""
    text, latents = raw.get("text_config"), raw.get("latent_attention_config")
    if not isinstance(text, Mapping) or not isinstance(latents, Mapping):
        raise CheckpointError(
            "config.json: NV-Embed needs its parts in text_config and latent_attention_config"
        )
    if lacking := [name for name in OWN if not isinstance(latents.get(name), int)]:
        raise CheckpointError(f"config.json: latent_attention_config has no numbers {lacking}")
    if latents["hidden_dim"] != latents["latent_dim"]:
        raise CheckpointError(
            "config.json: hidden_dim and latent_dim of latent_attention_config must be equal, "
            f"found {latents['hidden_dim']} and {latents['latent_dim']}"
        )
    names = {"architectures": raw.get("architectures"), "model_type": "mistral"}
    return {**text, **{name: latents[name] for name in OWN}, **names}


def nvembed_arch(config) -> Arch:
    """Its mask has no window either, whatever the text model's fields say."""
    return arch(config, causal=False, windows=())


def _latents(config, arch: Arch) -> tuple:
    step = LatentAttention(
        "latents",
        dim=arch.dim,
        latents=config.num_latents_value,
        heads=config.num_cross_heads,
        head_dim=config.cross_dim_head,
        mlp_dim=4 * arch.dim,
    )
    return (step,)


ATTEND, THINK = (f"latent_attention_model.cross_attend_blocks.{i}" for i in range(2))
LATENTS = (
    "heads.latents.embedding latent_attention_model.latents U D\n"
    + norm("heads.latents.norm", f"{ATTEND}.norm")
    + norm("heads.latents.latent_norm", f"{ATTEND}.norm_context")
    + dense("heads.latents.query", f"{ATTEND}.fn.to_q", "(N H) D")
    + dense("heads.latents.{key,value}", f"{ATTEND}.fn.to_kv", "(N H|N H) D")
    + dense("heads.latents.out", f"{ATTEND}.fn.to_out", "D (N H)")
    + norm("heads.latents.mlp_norm", f"{THINK}.norm")
    + dense("heads.latents.{up,gate}", f"{THINK}.fn.net.0", "(F|F) D")
    + dense("heads.latents.down", f"{THINK}.fn.net.2", "D F")
)
NVEMBED = Family(
    "NVEmbed",
    nvembed_arch,
    decoder_names(),
    prefix="embedding_model.",
    heads={"Model": Head("embed", _latents, LATENTS)},
    pool="mean",
    config="mistral",
    unfold=unfold,
    include_prompt=False,
    ended=True,
    examples=("nvidia/NV-Embed-v2",),
)
