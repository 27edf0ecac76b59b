"""Phi-3: Llama with fused projections."""

from converters.decoder import arch, decoder_names, family

LAYER = "layers.{L}"
PHI3 = family(
    "Phi3",
    arch,
    decoder_names(
        attention=f"""
layers.attention.{{query,key,value}}.kernel {LAYER}.self_attn.qkv_proj.weight (N H|K H|K H) D
layers.attention.out.kernel {LAYER}.self_attn.o_proj.weight D (N H)
""",
        mlp=f"""
layers.mlp.{{gate,up}}.kernel {LAYER}.mlp.gate_up_proj.weight (F|F) D
layers.mlp.down.kernel {LAYER}.mlp.down_proj.weight D F
""",
    ),
    examples=("microsoft/Phi-3.5-mini-instruct",),
)
