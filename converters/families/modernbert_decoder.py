"""ModernBERT's decoder (Ettin): causal, a tensor for each product of attention."""

from dataclasses import replace

from converters.families import modernbert
from converters.family import Family, attention, dense, norm
from converters.heads.classifiers import colbert
from jaxpool.heads.steps import Pool
from jaxpool.nn.arch import Arch

LAYER = "layers.{L}"


def arch(config) -> Arch:
    """ModernBERT with a causal mask, whose windows count the token itself."""
    side = config.local_attention // 2 - 1
    windows = tuple(side * (kind == "sliding_attention") for kind in config.layer_types)
    return modernbert.arch(config).replace(causal=True, windows=windows)


def _classify(config, arch: Arch) -> tuple:
    return (Pool(("lasttoken",)), *modernbert.token_classify(config, arch))


MODERNBERT_DECODER: Family = replace(
    modernbert.MODERNBERT,
    name="ModernBertDecoder",
    arch=arch,
    names="embed.token.embedding embeddings.tok_embeddings.weight V E\n"
    + norm("embed.norm", "embeddings.norm", "E")
    + attention(f"{LAYER}.attn", "q_proj", "k_proj", "v_proj", "Wo")
    + norm("layers.attention_norm", "layers.{L:1}.attn_norm")
    + dense("layers.mlp.{gate,up}", f"{LAYER}.mlp.Wi", "(F|F) D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.Wo", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.mlp_norm")
    + norm("norm", "final_norm"),
    heads={
        "SequenceClassification": modernbert.MODERNBERT.heads["SequenceClassification"]._replace(
            steps=_classify
        ),
        "ColBERT": colbert(),
    },
    ignored=(r"^lm_head\.", r"^decoder\.", r"^head\."),
    pool="lasttoken",
    examples=("jhu-clsp/ettin-decoder-150m",),
)
