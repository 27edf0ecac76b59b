"""XLM, and FlauBERT, which may have its norms before the branches."""

from dataclasses import replace

from converters.family import Family, Head, attention, dense, norm, require, sizes
from converters.heads.classifiers import token_classifier
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """XLM: BERT without token types; no norm at the end even where it comes before branches."""
    require(config, is_encoder=True, causal=False)
    pre = config.knows("pre_norm") and config.pre_norm
    return Arch(
        **sizes(config),
        mlp_dim=4 * config.hidden_size,
        positions=config.max_position_embeddings,
        embed_norm=True,
        norm_eps=config.layer_norm_eps,
        placement="pre" if pre else "post",
        activation="gelu" if config.gelu_activation else "relu",
        max_length=config.max_position_embeddings,
    )


def _summary(config, arch: Arch) -> tuple:
    require(config, summary_type="first", summary_use_proj=True)
    require(config, summary_activation=None, summary_proj_to_labels=True)
    return Pool(("cls",)), Dense("summary", arch.dim, config.num_labels)


def _words(config, arch: Arch) -> tuple:
    require(config, asm=False)
    return (Dense("decoder", arch.dim, arch.vocab),)


XLM = Family(
    "XLM",
    arch,
    "embed.token.embedding embeddings.weight V E\n"
    "embed.position.embedding position_embeddings.weight P E\n"
    + norm("embed.norm", "layer_norm_emb", "E")
    + attention("attentions.{L}", "q_lin", "k_lin", "v_lin", "out_lin")
    + norm("layers.attention_norm", "layer_norm1.{L}")
    + dense("layers.mlp.up", "ffns.{L}.lin1", "F D")
    + dense("layers.mlp.down", "ffns.{L}.lin2", "D F")
    + norm("layers.mlp_norm", "layer_norm2.{L}"),
    prefix="transformer.",
    heads={
        "SequenceClassification": Head(
            "classify", _summary, dense("heads.summary", "sequence_summary.summary")
        ),
        "TokenClassification": token_classifier(),
        "MaskedLM": Head(
            "sparse",
            _words,
            "heads.decoder.kernel pred_layer.proj.weight=transformer.embeddings.weight O I\n"
            "heads.decoder.bias pred_layer.proj.bias O\n",
        ),
    },
    # The language's embedding is added where a call names one, which texts do not.
    ignored=(r"position_ids$", r"^pred_layer\.", r"lang_embeddings\."),
    examples=("FacebookAI/xlm-mlm-en-2048",),
)
FLAUBERT = replace(XLM, name="Flaubert", examples=("flaubert/flaubert_base_cased",))
