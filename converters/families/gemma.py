"""Gemma 1, 2 and 3 for texts, EmbeddingGemma among them, and VaultGemma."""

from converters.families.decoder import IGNORED, arch, decoder_names, family
from converters.family import Family
from converters.rotary import rotary_by_layer
from jaxpool.nn.arch import Arch


def gemma_arch(config, **switches) -> Arch:
    """Gemma: embeddings grow with the width, stored norm scales are one less than the true ones."""
    return arch(config, embed_scale=config.hidden_size**0.5, norm_offset=1.0, **switches)


def _sandwich(config, **switches) -> Arch:
    """Norms around the branches, scores with a scale of their own, windows on some layers."""
    scale = config.query_pre_attn_scalar**-0.5
    return gemma_arch(config, placement="sandwich", attention_scale=scale, **switches)


def gemma2_arch(config) -> Arch:
    """Gemma 2: soft caps on scores."""
    return _sandwich(config, attention_softcap=config.attn_logit_softcapping or 0.0)


def vault_arch(config) -> Arch:
    """VaultGemma: Gemma 2 with norms before the branches alone."""
    return gemma2_arch(config).replace(placement="pre")


def gemma3_arch(config) -> Arch:
    """Gemma 3: normalized queries and keys; layers with windows turn with a base of their own."""
    return _sandwich(config, qk_norm="head", **rotary_by_layer(config))


SANDWICH = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
SANDWICH_NAMES = decoder_names(norms=SANDWICH)

GEMMA: Family = family("Gemma", gemma_arch, examples=("BAAI/bge-reranker-v2-gemma",))
GEMMA2: Family = family(
    "Gemma2", gemma2_arch, SANDWICH_NAMES, examples=("BAAI/bge-multilingual-gemma2",)
)
GEMMA3: Family = family(
    "Gemma3Text", gemma3_arch, SANDWICH_NAMES, examples=("google/embeddinggemma-300m",)
)
# The files of models that see as well, for texts alone.
GEMMA3_VISION: Family = family(
    "Gemma3",
    lambda config: gemma3_arch(config.text_config),
    SANDWICH_NAMES,
    renames=((r"^(model\.language_model|language_model\.model)\.", "model."),),
    ignored=(
        *IGNORED,
        r"^language_model\.lm_head\.",
        r"^(model\.)?(vision_tower|multi_modal_projector)\.",
    ),
    examples=("google/gemma-3-4b-pt",),
)
VAULT_GEMMA: Family = family(
    "VaultGemma",
    vault_arch,
    decoder_names(
        norms={"attention_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm"}
    ),
    examples=("google/vaultgemma-1b",),
)
