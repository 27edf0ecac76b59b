"""ModernBERT: pre-norm, rotary, gated MLP, local attention in all but every third layer."""

from converters.family import Family, Head, activation, dense, fused_attention, norm, sizes
from converters.heads.classifiers import colbert
from converters.rotary import rotary_by_layer
from jaxpool.heads.steps import Dense, Norm, Pool
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Two rotary tables; a local layer reaches `local_attention // 2` tokens to each side."""
    side = config.local_attention // 2
    if side < 1:
        raise ValueError(f"config.json: local_attention must be at least 2, found {2 * side}")
    return Arch(
        **sizes(config),
        mlp_dim=config.intermediate_size,
        embed_norm=True,
        norm_eps=config.norm_eps,
        norm_bias=config.norm_bias,
        placement="pre",
        first_attention_norm=False,
        final_norm=True,
        windows=tuple(side * (kind == "sliding_attention") for kind in config.layer_types),
        **rotary_by_layer(config),
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
        gated=True,
        activation=activation(config.hidden_activation),
        mlp_bias=config.mlp_bias,
        max_length=config.max_position_embeddings,
    )


def _transform(config, arch: Arch) -> tuple:
    dim, act = arch.dim, activation(config.classifier_activation)
    return (
        Dense("transform", dim, dim, bias=config.classifier_bias, activation=act),
        Norm("transform_norm", dim, arch.norm_eps, bias=arch.norm_bias),
    )


def _classify(config, arch: Arch) -> tuple:
    return (Pool((config.classifier_pooling,)), *token_classify(config, arch))


def token_classify(config, arch: Arch) -> tuple:
    """The transform and the classifier of every token."""
    return (*_transform(config, arch), Dense("classifier", arch.dim, config.num_labels))


def _masked_lm(config, arch: Arch) -> tuple:
    decoder = Dense("decoder", arch.dim, arch.vocab, bias=config.decoder_bias)
    return (*_transform(config, arch), decoder)


LAYER = "layers.{L}"
TRANSFORM = dense("heads.transform", "head.dense") + norm("heads.transform_norm", "head.norm", "O")
CLASSIFIER = TRANSFORM + dense("heads.classifier", "classifier")
DECODER = """
heads.decoder.kernel decoder.weight=model.embeddings.tok_embeddings.weight O I
heads.decoder.bias   decoder.bias                                          O
"""

MODERNBERT = Family(
    "ModernBert",
    arch,
    "embed.token.embedding embeddings.tok_embeddings.weight V E\n"
    + norm("embed.norm", "embeddings.norm", "E")
    + fused_attention(f"{LAYER}.attn", "Wqkv", "Wo")
    + norm("layers.attention_norm", "layers.{L:1}.attn_norm")
    + dense("layers.mlp.{gate,up}", f"{LAYER}.mlp.Wi", "(F|F) D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.Wo", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.mlp_norm")
    + norm("norm", "final_norm"),
    prefix="model.",
    heads={
        "SequenceClassification": Head("classify", _classify, CLASSIFIER),
        "TokenClassification": Head("token_classify", token_classify, CLASSIFIER),
        "ColBERT": colbert(),
        "MaskedLM": Head("sparse", _masked_lm, TRANSFORM + DECODER),
    },
    ignored=(r"^head\.", r"^decoder\."),
    examples=("nomic-ai/modernbert-embed-base", "Alibaba-NLP/gte-modernbert-base"),
)
