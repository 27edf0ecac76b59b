"""InternLM2: Llama with one projection for the queries, key and value of each key/value head."""

from converters.families.decoder import HEADS, arch, decoder_names, family, mlp_names, value
from converters.family import dense

LAYER = "layers.{L}"
ATTENTION = f"{LAYER}.attention"
INTERNLM2 = family(
    "InternLM2",
    arch,
    decoder_names(
        attention=f"""
layers.attention.{{query,key,value}}.kernel {ATTENTION}.wqkv.weight (K [G|1|1] H) D
layers.attention.{{query,key,value}}.bias   {ATTENTION}.wqkv.bias   (K [G|1|1] H)
"""
        + dense("layers.attention.out", f"{ATTENTION}.wo", "D (N H)"),
        mlp=mlp_names(f"{LAYER}.feed_forward", {"gate": "w1", "up": "w3", "down": "w2"}),
        norms={"attention_norm": "attention_norm", "mlp_norm": "ffn_norm"},
        embedding="tok_embeddings",
    ),
    heads=HEADS | {"RewardModel": value("v_head")},
    config="llama",
    aliases={"bias": "attention_bias"},
    examples=("internlm/internlm2-1_8b-reward",),
)
