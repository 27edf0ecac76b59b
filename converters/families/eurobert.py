"""EuroBERT: Llama as an encoder."""

from converters.families.decoder import IGNORED, decoder_names
from converters.families.decoder import arch as decoder_arch
from converters.family import Family, Head, dense
from converters.heads.classifiers import token_classifier
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch

POOLS = {"bos": "cls", "mean": "mean"}


def arch(config) -> Arch:
    """Every token sees every other."""
    return decoder_arch(config, causal=False)


def _classify(config, arch: Arch) -> tuple:
    """Pooled before the classifier ("bos", "mean"), or the mean of all tokens' logits ("late")."""
    layers = (
        Dense("dense", arch.dim, arch.dim, activation="gelu"),
        Dense("classifier", arch.dim, config.num_labels),
    )
    if config.classifier_pooling == "late":
        return (*layers, Pool(("mean",)))
    return (Pool((POOLS[config.classifier_pooling],)), *layers)


def _masked_lm(config, arch: Arch) -> tuple:
    return (Dense("decoder", arch.dim, arch.vocab, bias=config.mlp_bias),)


EUROBERT = Family(
    "EuroBert",
    arch,
    decoder_names(),
    prefix="model.",
    heads={
        "SequenceClassification": Head(
            "classify", _classify, dense("heads.dense", "dense") + token_classifier().table(None)
        ),
        "TokenClassification": token_classifier(),
        "MaskedLM": Head(
            "sparse",
            _masked_lm,
            "heads.decoder.kernel lm_head.weight=model.embed_tokens.weight O I\n"
            "heads.decoder.bias lm_head.bias O\n",
        ),
    },
    ignored=IGNORED,
    pool="mean",
    examples=("EuroBERT/EuroBERT-210m",),
)
