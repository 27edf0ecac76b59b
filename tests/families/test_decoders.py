"""Decoders as pooling models against Hugging Face torch, with non-default configurations."""

import pytest
import transformers as hf
from parity import check, save_random

COMMON = dict(
    vocab_size=97,
    hidden_size=36,
    intermediate_size=50,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    pad_token_id=0,
    num_labels=3,
)
LAYERS4 = COMMON | dict(num_hidden_layers=4)
CONFIGS = {
    "Llama": hf.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True),
    "Mistral": hf.MistralConfig(**COMMON, sliding_window=7),
    "Qwen2": hf.Qwen2Config(
        **COMMON,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
    ),
    "Qwen3": hf.Qwen3Config(**COMMON, attention_bias=True),
    "Qwen3Moe": hf.Qwen3MoeConfig(
        **LAYERS4,
        moe_intermediate_size=20,
        num_experts=5,
        num_experts_per_tok=2,
        decoder_sparse_step=2,
        norm_topk_prob=True,
    ),
    "Olmo2": hf.Olmo2Config(**COMMON, attention_bias=True),
    "SmolLM3": hf.SmolLM3Config(**LAYERS4, no_rope_layer_interval=2),
    "Gemma": hf.GemmaConfig(**COMMON, attention_bias=True),
    "Gemma2": hf.Gemma2Config(
        **COMMON,
        sliding_window=7,
        query_pre_attn_scalar=5,
        attn_logit_softcapping=1.5,
    ),
    "Gemma3Text": hf.Gemma3TextConfig(
        **LAYERS4,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention"] * 2,
        query_pre_attn_scalar=5,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 900.0},
        },
    ),
    "Phi3": hf.Phi3Config(
        **COMMON | dict(hidden_size=60),
        sliding_window=7,
        rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.6},
    ),
    "GPT2": hf.GPT2Config(
        vocab_size=97,
        n_embd=36,
        n_layer=3,
        n_head=6,
        n_inner=50,
        n_positions=64,
        layer_norm_epsilon=1e-4,
        pad_token_id=0,
        num_labels=3,
    ),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_hidden_states(family, tmp_path):
    model_class = getattr(hf, family + "Model")
    check(save(model_class, CONFIGS[family], tmp_path / "model"), model_class)


def save(model_class, config, folder):
    """Random weights; Gemma's norms lie around 0."""
    return save_random(
        model_class, config, folder, scale=0.0 if "Gemma" in model_class.__name__ else 1.0
    )
