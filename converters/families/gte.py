"""GTE: BERT with rotary positions and a gated MLP; in transformers' names and in Alibaba's."""

from dataclasses import replace

from converters.families import bert
from converters.family import Family, dense, fused_attention, norm
from converters.heads.classifiers import classifier, masked_lm, token_classifier, unused_pooler
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """No bias on the way into the MLP."""
    if getattr(config, "logn_attention_scale", False):
        raise ValueError("config.json: logn_attention_scale is not supported")
    return bert.rotary_arch(config, rotary(config)).replace(
        gated=True, mlp_bias=False, down_bias=True
    )


LAYER = "encoder.layer.{L}"
NAMES = (
    bert.EMBEDDINGS
    + fused_attention(f"{LAYER}.attention", "qkv_proj", "o_proj")
    + norm("layers.attention_norm", f"{LAYER}.attn_ln")
    + dense("layers.mlp.{up,gate}", f"{LAYER}.mlp.up_gate_proj", "(F|F) D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.down_proj", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.mlp_ln")
)


def _family(name: str, prefix: str) -> Family:
    return Family(
        name,
        arch,
        NAMES,
        prefix=prefix,
        heads={
            "Model": unused_pooler(),
            "SequenceClassification": classifier(f"{prefix}pooler.dense", "classifier"),
            "TokenClassification": token_classifier(),
            "MaskedLM": masked_lm(
                "lm_head.dense",
                "lm_head.norm",
                "lm_head.decoder",
                f"{prefix}embeddings.word_embeddings",
            ),
        },
        # gte-multilingual-base brings the classifier of its sparse vectors along.
        ignored=(*bert.BUFFERS, r"rotary_emb\.", r"^(lm_head|classifier)\.", rf"^{prefix}pooler\."),
    )


GTE = replace(_family("Gte", "gte."), examples=("Snowflake/snowflake-arctic-embed-m-v2.0",))
NEW = replace(
    _family("New", "new."),
    config="gte",
    examples=(
        "Alibaba-NLP/gte-multilingual-base",
        "Alibaba-NLP/gte-large-en-v1.5",
        "Alibaba-NLP/gte-multilingual-reranker-base",
    ),
)
