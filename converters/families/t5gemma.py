"""T5Gemma's encoder: Gemma 2 without a causal mask, alone or of an encoder-decoder's files."""

from converters.architectures import architecture
from converters.families.decoder import IGNORED, decoder_names
from converters.families.gemma import gemma2_arch
from converters.families.t5gemma2 import NORMS, T5GEMMA2
from converters.family import Family
from converters.joined import under
from jaxpool.nn.arch import Arch


def t5gemma_arch(config) -> Arch:
    """A window of the encoder counts the tokens on each side."""
    name = architecture(config)
    if config.is_encoder_decoder and "Classification" in name:
        raise ValueError(
            f"{name}: is_encoder_decoder must be false, since its encoder alone is read"
        )
    text = config.encoder
    sides = tuple(text.sliding_window * (kind == "sliding_attention") for kind in text.layer_types)
    return gemma2_arch(text).replace(causal=False, windows=sides)


T5GEMMA = Family(
    "T5Gemma",
    t5gemma_arch,
    under("encoder.", decoder_names(norms=NORMS)),
    prefix="model.",
    heads=T5GEMMA2.heads,
    ignored=(*IGNORED, r"\bdecoder\."),
    pool="mean",
    examples=("google/t5gemma-b-b-prefixlm",),
)
