"""T5Gemma 2: an encoder and a decoder that attends to its own past and to the encoder at once.

Texts alone: the files' vision tower is not read (arXiv 2512.14856).
"""

from converters.families.decoder import IGNORED, decoder_names
from converters.families.gemma import gemma_arch
from converters.family import Family, Head, dense, require
from converters.joined import under
from converters.rotary import rotary_by_layer
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch


def _stack(config, **switches) -> Arch:
    """Gemma 3's layers."""
    require(config, attn_logit_softcapping=None)  # a field that transformers' code does not read
    return gemma_arch(
        config,
        placement="sandwich",
        attention_scale=config.query_pre_attn_scalar**-0.5,
        qk_norm="head",
        **rotary_by_layer(config),
        **switches,
    )


def t5gemma2_arch(config) -> Arch:
    """The encoder; for classes that name a head, with its decoder.

    A window of the encoder has the token itself, and of the others half before and half behind.
    """
    text = config.encoder.text_config
    sides = tuple(
        text.sliding_window // 2 * (kind == "sliding_attention") for kind in text.layer_types
    )
    uneven = 1 - text.sliding_window % 2
    encoder = _stack(text, causal=False, windows=sides, lean=uneven)
    if not any("For" in name for name in config.architectures or ()):
        return encoder
    own = any("ForConditionalGeneration" in name for name in config.architectures)
    start = config.decoder.bos_token_id
    return encoder.replace(decoder=_stack(config.decoder, start=start, merged=True, apart=own))


NORMS = {
    "attention_norm": "pre_self_attn_layernorm",
    "attention_post_norm": "post_self_attn_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
STACK = decoder_names(norms=NORMS)
TOKENS, LAYERS = STACK.split("\n", 1)
NAMES = under("encoder.", STACK) + under("decoder.", LAYERS, "decoder.")
SCORE = dense("heads.score", "score.out_proj")


def _logits(config, arch: Arch) -> tuple:
    return (Dense("score", arch.dim, config.num_labels),)


T5GEMMA2 = Family(
    "T5Gemma2",
    t5gemma2_arch,
    NAMES,
    prefix="model.",
    heads={
        "SequenceClassification": Head(
            "classify", lambda config, arch: (Pool(("lasttoken",)), *_logits(config, arch)), SCORE
        ),
        "TokenClassification": Head("token_classify", _logits, SCORE),
    },
    renames=((r"\bencoder\.text_model\.", "encoder."),),
    ignored=(
        *IGNORED,
        r"\bdecoder\.",
        r"embed_tokens\.eoi_embedding$",
        r"\bencoder\.(vision_tower|multi_modal_projector)\.",
    ),
    pool="mean",
    examples=("google/t5gemma-2-270m-270m", "KaLM-Embedding/KaLM-Reranker-V1-Nano"),
)
