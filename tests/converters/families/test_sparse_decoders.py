"""Mixtures of experts: what stands beside them, what corrects them, and how groups choose."""

import numpy as np
import pytest
import transformers as hf
from parity import check_packed, reference, save_random, texts
from test_decoders import COMMON, ENDINGS, class_of
from test_hybrid_decoders import LFM2, QWEN3_5
from test_new_decoders import DEEPSEEK
from test_remote_decoders import remodel

from converters.checkpoint import open_checkpoint

PLAIN = {name: value for name, value in COMMON.items() if name != "head_dim"}
WIDE = PLAIN | dict(hidden_size=60, num_hidden_layers=4)
EXPERTS = dict(moe_intermediate_size=20, num_experts=6, num_experts_per_tok=2)
LATENT = {
    name: value
    for name, value in DEEPSEEK.items()
    if name not in ("first_k_dense_replace", "n_group", "topk_group")
}
ROUTED = dict(
    n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=2, n_group=3, topk_group=2
)
FACTORS = dict(
    embedding_multiplier=3.0,
    attention_multiplier=0.2,
    residual_multiplier=0.4,
    intermediate_size=52,
)
PAIRED = LATENT | ROUTED | dict(qk_nope_head_dim=6)  # torch pairs their features
TURN = dict(rope_type="default", rope_theta=700.0, partial_rotary_factor=0.6)
CONFIGS = {
    "Qwen2Moe": hf.Qwen2MoeConfig(
        **WIDE,
        **EXPERTS,
        shared_expert_intermediate_size=14,
        decoder_sparse_step=2,
        norm_topk_prob=True,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=2,
    ),
    "GptOss": hf.GptOssConfig(
        **COMMON | dict(intermediate_size=52),
        sliding_window=4,
        num_local_experts=5,
        num_experts_per_tok=2,
        swiglu_limit=0.4,
    ),
    "HunYuanMoEV1": hf.HunYuanMoEV1Config(
        **COMMON | dict(intermediate_size=52), num_experts=5, moe_topk=2, attention_bias=True
    ),
    "DeepseekV2, by groups": hf.DeepseekV2Config(
        **PAIRED,
        first_k_dense_replace=1,
        q_lora_rank=9,
        topk_method="group_limited_greedy",
        routed_scaling_factor=1.3,
    ),
    "DeepseekV2": hf.DeepseekV2Config(**PAIRED, first_k_dense_replace=2, q_lora_rank=None),
    "MiniCPM3": hf.MiniCPM3Config(
        **{x: y for x, y in LATENT.items() if "expert" not in x and "moe" not in x},
        q_lora_rank=9,
        scale_emb=3,
        scale_depth=1.4,
    ),
    "Youtu": hf.YoutuConfig(
        **{x: y for x, y in LATENT.items() if "expert" not in x and "moe" not in x}, q_lora_rank=9
    ),
    "Glm4MoeLite": hf.Glm4MoeLiteConfig(**LATENT | ROUTED, q_lora_rank=9),
    "Glm4Moe": hf.Glm4MoeConfig(
        **COMMON, **ROUTED, moe_intermediate_size=20, use_qk_norm=True, rope_parameters=TURN
    ),
    "Dots1": hf.Dots1Config(
        **COMMON,
        **ROUTED,
        moe_intermediate_size=20,
        first_k_dense_replace=1,
        norm_topk_prob=True,
        sliding_window=7,
        max_window_layers=1,
    ),
    "Ernie4_5_Moe": hf.Ernie4_5_MoeConfig(
        **WIDE,
        moe_intermediate_size=20,
        moe_k=2,
        moe_num_experts=5,
        moe_num_shared_experts=2,
        moe_layer_interval=2,
    ),
    "FlexOlmo": hf.FlexOlmoConfig(
        **WIDE | dict(intermediate_size=52), num_experts=5, num_experts_per_tok=2
    ),
    "Lfm2Moe": hf.Lfm2MoeConfig(
        **{x: y for x, y in LFM2.items() if x != "block_multiple_of"}, **EXPERTS, num_dense_layers=2
    ),
    "GraniteMoe": hf.GraniteMoeConfig(**WIDE | FACTORS, num_local_experts=5, num_experts_per_tok=2),
    "GraniteMoeShared": hf.GraniteMoeSharedConfig(
        **WIDE | FACTORS, num_local_experts=5, num_experts_per_tok=2, shared_intermediate_size=14
    ),
    "GraniteMoeHybrid": hf.GraniteMoeHybridConfig(
        **WIDE | FACTORS,
        num_local_experts=0,
        shared_intermediate_size=14,
        layer_types=["full_attention"] * 4,
        position_embedding_type="rope",
        mamba_n_heads=4,
    ),
    "GraniteMoeHybrid, with experts": hf.GraniteMoeHybridConfig(
        **WIDE | FACTORS,
        num_local_experts=5,
        num_experts_per_tok=2,
        shared_intermediate_size=14,
        layer_types=["full_attention"] * 4,
        mamba_n_heads=4,
    ),
    "Qwen3_5MoeText": hf.Qwen3_5MoeTextConfig(
        **{x: y for x, y in QWEN3_5.items() if x != "intermediate_size"},
        **EXPERTS,
        shared_expert_intermediate_size=14,
    ),
}
FAST = ("Qwen2Moe",)


def save(model_class, config, folder):
    """Random weights; the biases that choose experts lie far apart, as texts then do not tie."""
    offset = "Qwen3_5" in model_class.__name__

    def change(tensors):
        rng = np.random.default_rng(0)
        made = {}
        for name, x in tensors.items():
            if "correction" in name or "expert_bias" in name:
                x = rng.normal(size=x.shape).astype(np.float32)
            made[name] = x + 1 if offset and "linear_attn.norm" in name else x
        return made

    return remodel(save_random(model_class, config, folder, scale=0.0 if offset else 1.0), change)


@pytest.mark.parametrize(
    "case", [pytest.param(x, marks=() if x in FAST else pytest.mark.slow) for x in CONFIGS]
)
def test_hidden_states(case, tmp_path):
    model_class = class_of(CONFIGS[case])
    folder = save(model_class, CONFIGS[case], tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "last_hidden_state"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "ending"),
    [(x, ending) for x in CONFIGS for ending in ENDINGS if class_of(CONFIGS[x], ending)],
)
def test_heads(case, ending, tmp_path):
    model_class = class_of(CONFIGS[case], ending)
    folder = save(model_class, CONFIGS[case], tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), ENDINGS[ending])


@pytest.mark.parametrize(
    ("case", "fields", "message"),
    [
        ("GraniteMoeHybrid", {"layer_types": ["mamba"] * 4}, "must be attention, found"),
        ("DeepseekV2", {"topk_method": "noaux_tc"}, "topk_method 'noaux_tc' is unknown"),
    ],
)
def test_what_is_not_implemented_is_refused(case, fields, message, tmp_path):
    folder = save(class_of(CONFIGS[case]), CONFIGS[case], tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        open_checkpoint(folder, fields)
