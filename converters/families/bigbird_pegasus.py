"""BigBird-Pegasus: an encoder-decoder, exact on texts so short that its attention is full."""

import re
from dataclasses import replace

from converters.families import bart, big_bird
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """BART with norms before the branches and at the end, positions from row 0."""
    made = bart.arch(config)
    changes = dict(
        placement="pre",
        final_norm=True,
        embed_norm=False,
        positions=config.max_position_embeddings,
        position_offset=0,
        qkv_bias=config.use_bias,
        out_bias=config.use_bias,
        max_length=min(made.max_length, big_bird.reach(config)),
    )
    return made.replace(**changes, decoder=made.decoder and made.decoder.replace(**changes))


SELF = r"(encoder\.layers\.\{L\}\.self_attn)"
NAMES = re.sub(rf"{SELF}\.out_proj", r"\1.output", bart.NAMES)
for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
    NAMES = re.sub(rf"{SELF}\.{short}_proj", rf"\1.self.{name}", NAMES)
NAMES = NAMES.replace("coder.layer_norm.", "coder.layernorm_embedding.")  # it comes last here

BIGBIRD_PEGASUS = replace(
    bart.BART,
    name="BigBirdPegasus",
    arch=arch,
    names=NAMES,
    examples=("google/bigbird-pegasus-large-arxiv",),
)
