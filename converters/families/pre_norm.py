"""BERT and RoBERTa with norms before the branches: Megatron-BERT, XLM-RoBERTa-XL, ESM, ..."""

from dataclasses import replace

from converters.families import bert, roberta
from converters.family import attention, dense, norm
from jaxpool.nn.arch import Arch, Rotary

PRE = {"placement": "pre", "final_norm": True}
TRAINED_SHARE = 1 - 0.15 * 0.8  # of the tokens that ESM saw in training; its code has it


def megatron_arch(config) -> Arch:
    """Megatron-BERT: no norm on the embeddings, one at the end."""
    return bert.arch(config).replace(**PRE, embed_norm=False)


def xl_arch(config) -> Arch:
    """XLM-RoBERTa-XL: the same with RoBERTa's positions."""
    return roberta.arch(config).replace(**PRE, embed_norm=False)


def plain_arch(config) -> Arch:
    """RoBERTa-PreLayerNorm: a norm on the embeddings too."""
    return roberta.arch(config).replace(**PRE)


def esm_arch(config) -> Arch:
    """ESM (proteins): rotary positions in version 2, RoBERTa's in 1b; masked tokens drop out."""
    base = roberta.arch(config).replace(**PRE, embed_norm=config.emb_layer_norm_before or False)
    if config.token_dropout:
        base = base.replace(embed_scale=TRAINED_SHARE, dropped=config.mask_token_id)
    if config.position_embedding_type != "rotary":
        return base
    table = Rotary(float(config.rope_theta), base.head_dim)
    length = config.max_position_embeddings
    return base.replace(positions=0, uncounted=-1, rotary=(table,), max_length=length)


LAYER = "encoder.layer.{L}"


def names(attention_norm: str, mlp_norm: str, last_norm: str) -> str:
    """BERT's table with other names of norms."""
    return (
        bert.EMBEDDINGS
        + attention(f"{LAYER}.attention", "self.query", "self.key", "self.value", "output.dense")
        + dense("layers.mlp.up", f"{LAYER}.intermediate.dense", "F D")
        + dense("layers.mlp.down", f"{LAYER}.output.dense", "D F")
        + norm("layers.attention_norm", f"{LAYER}.{attention_norm}")
        + norm("layers.mlp_norm", f"{LAYER}.{mlp_norm}")
        + norm("norm", last_norm)
    )


MEGATRON_BERT = replace(
    bert.BERT,
    name="MegatronBert",
    arch=megatron_arch,
    names=names("attention.ln", "ln", "encoder.ln"),
    examples=("UFNLP/gatortron-base",),
)
XLM_ROBERTA_XL = replace(
    roberta.ROBERTA,
    name="XLMRobertaXL",
    arch=xl_arch,
    names=names("attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm"),
    examples=("facebook/xlm-roberta-xl",),
)
ROBERTA_PRE_NORM = roberta.twin(
    "RobertaPreLayerNorm",
    "roberta_prelayernorm.",
    arch=plain_arch,
    names=names("attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm"),
    examples=("andreasmadsen/efficient_mlm_m0.40",),
)
ESM = roberta.twin(
    "Esm",
    "esm.",
    arch=esm_arch,
    names=names("attention.LayerNorm", "LayerNorm", "encoder.emb_layer_norm_after").replace(
        "embeddings.LayerNorm", "embeddings.layer_norm"
    ),
    ignored=(*roberta.ignored("esm."), r"inv_freq$", r"contact_head\."),
    examples=("facebook/esm2_t33_650M_UR50D", "facebook/esm2_t6_8M_UR50D"),
)
