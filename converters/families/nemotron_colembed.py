"""Nemotron-ColEmbed-VL v2: Qwen3-VL that sees both ways, for late interaction (arXiv 2602.03992).

Every token's last hidden state is a vector, before the norm that files still have. Prompts are
those of the code beside nemotron-colembed-vl-4b-v2, around the chat template of Qwen3-VL.
"""

from dataclasses import replace

from converters.families.qwen3_vl import QWEN3_VL
from converters.families.qwen3_vl import arch as qwen3_vl_arch
from converters.family import Head
from converters.joined import AS_WRITTEN
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Qwen3-VL without a causal mask and the last norm."""
    return qwen3_vl_arch(config).replace(causal=False, final_norm=False)


CHAT = "<|im_start|>user\n{}{{content}}<|im_end|>\n<|im_start|>assistant\n"
NEMOTRON_COLEMBED = replace(
    QWEN3_VL,
    name="Qwen3VLNemotronEmbed",
    arch=arch,
    config="qwen3_vl",
    heads={"Model": Head("token_embed", lambda config, arch: (), "")},
    ignored=(*QWEN3_VL.ignored, r"language_model\.norm\."),
    conversation=replace(
        AS_WRITTEN,
        seen=CHAT.format("{images}passage: "),
        sides={"query": CHAT.format("Query: query: "), "document": CHAT.format("passage: ")},
    ),
    examples=("nvidia/nemotron-colembed-vl-4b-v2", "nvidia/nemotron-colembed-vl-8b-v2"),
)
