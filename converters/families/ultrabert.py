"""UltraBERT and ESM C (proteins): Llama as an encoder, with windows or LayerNorms."""

from converters.families.decoder import IGNORED, attention_names, decoder_names, token_score
from converters.families.decoder import arch as decoder_arch
from converters.family import Family, Head, dense
from converters.heads.classifiers import classifier, masked_lm, token_classifier
from converters.rotary import rotary_by_layer
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch


def ultra_arch(config) -> Arch:
    """UltraBERT: a window counts the tokens of each side; layers with one turn otherwise."""
    sides = (config.sliding_window, 0)
    windows = tuple(sides[kind != "sliding_attention"] for kind in config.layer_types)
    return decoder_arch(config, causal=False, windows=windows, **rotary_by_layer(config))


def esmc_arch(config) -> Arch:
    """ESM C: norms of all heads together; branches weigh more in shallow models."""
    return decoder_arch(
        config,
        causal=False,
        norm="layer",
        norm_eps=1e-5,
        final_norm_bias=False,
        qk_norm="full_layer",
        residual_scale=(36 / config.num_hidden_layers) ** 0.5,
    )


def _classify(config, arch: Arch) -> tuple:
    return Pool((config.classifier_pooling,)), Dense("classifier", arch.dim, config.num_labels)


def _words(config, arch: Arch) -> tuple:
    width = config.prediction_head_size
    return (
        Dense("narrow", arch.dim, width, bias=False, activation="gelu_tanh"),
        Dense("wide", width, arch.dim, bias=False, activation="gelu_tanh"),
        Dense("decoder", arch.dim, arch.vocab, bias=False),
    )


ULTRABERT = Family(
    "Ultrabert",
    ultra_arch,
    decoder_names(),
    prefix="ultrabert.",
    heads={
        "SequenceClassification": Head("classify", _classify, token_classifier().names),
        "TokenClassification": token_classifier(),
        "MaskedLM": Head(
            "sparse",
            _words,
            dense("heads.narrow", "head.linear1")
            + dense("heads.wide", "head.linear2")
            + dense("heads.decoder", "cls"),
        ),
    },
    ignored=(*IGNORED, r"^(head|cls)\."),
    pool="mean",
    examples=("dmis-lab/UltraBERT-150M",),
)
ESMC = Family(
    "Esmc",
    esmc_arch,
    decoder_names(attention_names("layers.{L}.self_attn", "(N H)")),
    prefix="esmc.",
    heads={
        "SequenceClassification": classifier("classifier.dense", "classifier.out_proj"),
        "TokenClassification": token_score(),
        "MaskedLM": masked_lm(
            "lm_head.dense",
            "lm_head.layer_norm",
            "lm_head.decoder",
            "esmc.embed_tokens",
            act="gelu",
        ),
    },
    ignored=IGNORED,
    pool="mean",
    examples=("biohub/ESMC-300M",),
)
