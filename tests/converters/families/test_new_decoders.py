"""Decoders of 2025 and 2026, and models that attend both ways under names of their own."""

import json

import numpy as np
import pytest
import transformers as hf
from parity import check, check_packed, reference, save_random, texts
from published import publish
from test_decoders import COMMON
from test_remote_decoders import relative, remodel

from converters.checkpoint import open_checkpoint
from jaxpool import LLM
from jaxpool.heads.precision import Squash
from tests.small import TEXTS, add_tokenizer
from tests.tasks.test_reward import SIZES as SMALL

GROWING = dict(
    rope_type="yarn",
    rope_theta=300.0,
    factor=4.0,
    original_max_position_embeddings=6,
    llama_4_scaling_beta=0.7,
    mscale=1.0,
    mscale_all_dim=1.0,
)
MINISTRAL3 = hf.Ministral3Config(**COMMON, rope_parameters=GROWING)
ETTIN = hf.ModernBertDecoderConfig(
    vocab_size=97,
    hidden_size=40,
    intermediate_size=50,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=64,
    local_attention=12,
    norm_bias=True,
    attention_bias=True,
    mlp_bias=True,
    classifier_bias=True,
    pad_token_id=0,
    num_labels=3,
)
PRIVACY = hf.OpenAIPrivacyFilterConfig(
    **COMMON | dict(intermediate_size=52),
    sliding_window=4,
    num_local_experts=5,
    num_experts_per_tok=2,
    swiglu_limit=0.4,
    rope_parameters=dict(
        rope_type="yarn",
        rope_theta=70.0,
        factor=4.0,
        truncate=False,
        original_max_position_embeddings=8,
    ),
)
CASES = {
    "Ministral3Model": (MINISTRAL3, None),
    "Ministral3ForSequenceClassification": (MINISTRAL3, "classify"),
    "ModernBertDecoderModel": (ETTIN, None),
    "ModernBertDecoderForSequenceClassification": (ETTIN, "classify"),
    "OpenAIPrivacyFilterModel": (PRIVACY, None),
    "OpenAIPrivacyFilterForTokenClassification": (PRIVACY, "token_classify"),
}
BOTH_WAYS = {
    "Ministral3BidirectionalModel": (hf.Ministral3Model, hf.Ministral3Config, "ministral3"),
    "Qwen3BidirectionalModel": (hf.Qwen3Model, hf.Qwen3Config, "qwen3"),
    "PPLXQwen3Model": (hf.Qwen3Model, hf.Qwen3Config, "bidirectional_pplx_qwen3"),
}


DEEPSEEK = dict(
    **{name: value for name, value in COMMON.items() if name != "head_dim"}
    | dict(num_key_value_heads=6),
    first_k_dense_replace=1,
    moe_intermediate_size=20,
    n_routed_experts=12,
    n_group=4,
    topk_group=2,
    num_experts_per_tok=3,
    n_shared_experts=2,
    kv_lora_rank=14,
    qk_rope_head_dim=6,
    qk_nope_head_dim=5,
    v_head_dim=7,
    attention_bias=True,
    rope_parameters=dict(
        rope_type="yarn",
        rope_theta=300.0,
        factor=4.0,
        original_max_position_embeddings=16,
        mscale=0.7,
        mscale_all_dim=1.2,
    ),
)


def deepseek(folder, query_rank, spread, **fields):
    """A random model, whose corrections of the scores of experts lie so far apart."""

    def corrected(tensors):
        rng = np.random.default_rng(0)
        return {
            x: spread * rng.normal(size=t.shape).astype(np.float32) if "correction" in x else t
            for x, t in tensors.items()
        }

    config = hf.DeepseekV3Config(**DEEPSEEK, q_lora_rank=query_rank, **fields)
    return remodel(save_random(hf.DeepseekV3Model, config, folder), corrected)


def test_deepseek(tmp_path):
    """Corrections wide apart: bfloat16 decides near ties of random scores in other ways."""
    check(deepseek(tmp_path / "model", 9, 1.0), hf.DeepseekV3Model)


def test_deepseek_both_ways(tmp_path):
    """Giga-Embeddings of 10B: no causal mask, the mean; here queries are made of the token."""
    folder = deepseek(tmp_path / "model", None, 0.25, is_causal=False)
    model = hf.DeepseekV3Model.from_pretrained(folder).eval()
    wanted = reference(model, texts(97), False, "last_hidden_state")
    remodel(folder, lambda t: t, architectures=["DeepseekV3BidirectionalModel"], is_causal=None)
    check_packed(folder, wanted)
    assert open_checkpoint(folder).pool == "mean"


@pytest.mark.parametrize("name", CASES)
def test_parity(name, tmp_path):
    config, task = CASES[name]
    model_class = getattr(hf, name)
    folder = save_random(model_class, config, tmp_path / "model")
    if not task:
        check(folder, model_class)
        return
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), task)


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_names_that_say_both_ways(name, tmp_path):
    """Nemotron-3-Embed, Giga-Embeddings, pplx-embed: no causal mask, and the mean."""
    model_class, config, model_type = BOTH_WAYS[name]
    folder = tmp_path / "model"
    rope = {"rope_parameters": GROWING} if "Ministral" in name else {}
    hidden = relative(model_class, config(**COMMON, **rope, is_causal=False), folder)
    remodel(folder, lambda t: t, architectures=[name], is_causal=None, model_type=model_type)
    check_packed(folder, hidden)
    assert open_checkpoint(folder).pool == "mean"


def test_squashed_vectors_are_those_of_pplx():
    """Their int8 vectors are round(127 tanh(x)), and ours 127 times as short."""
    x = np.linspace(-4, 4, 999).astype(np.float32)
    wanted = np.clip(np.round(np.tanh(x) * 127), -128, 127)
    np.testing.assert_allclose(Squash()({}, x, None) * 127, wanted, atol=1e-5)


def test_pplx_embeds_squashed_means(tmp_path):
    """The folder as published: a module of its own code comes last, and nothing normalizes."""
    folder = tmp_path / "model"
    config = hf.Qwen3Config(**SMALL, is_causal=False)
    save_random(hf.Qwen3Model, config, folder)
    model = hf.Qwen3Model.from_pretrained(folder).eval()
    publish(folder, ["is_causal"], model_type="bidirectional_pplx_qwen3")
    types = ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling")
    types += ("st_quantize.FlexibleQuantizer",)
    paths = ("", "1_Pooling", "")
    modules = [dict(idx=i, name=str(i), path=paths[i], type=x) for i, x in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    publish(folder, architectures=["PPLXQwen3Model"])
    output = LLM(str(add_tokenizer(folder))).embed(TEXTS[:1], use_tqdm=False)[0]
    (hidden,) = reference(model, [np.array(output.prompt_token_ids)], False, "last_hidden_state")
    wanted = np.round(127 * np.tanh(hidden.mean(0))) / 127
    np.testing.assert_allclose(np.array(output.outputs.embedding), wanted, atol=1.01 / 127)
    assert np.mean(np.abs(output.outputs.embedding - wanted) < 1e-6) > 0.9


@pytest.mark.parametrize("cut", [None, 2])
def test_layerwise_minicpm(cut, tmp_path):
    """Granite's factors under MiniCPM's names; a score by the last layer, or by the second."""
    factors = dict(embedding_multiplier=3.0, residual_multiplier=1.4 / 3**0.5)
    config = hf.GraniteConfig(**COMMON, **factors, attention_multiplier=10**-0.5)
    folder = save_random(hf.GraniteModel, config, tmp_path / "model")
    config.num_hidden_layers = cut or 3
    model = hf.GraniteModel.from_pretrained(folder, config=config).eval()
    hidden = reference(model, texts(97), False, "last_hidden_state")
    scores = np.random.default_rng(0).normal(size=(3, 1, 36)).astype(np.float32)
    own = {f"lm_head.{i}.linear_head.weight": scores[i] for i in range(3)}
    remodel(
        folder,
        lambda t: {f"model.{name}": tensor for name, tensor in t.items()} | own,
        [*factors, "attention_multiplier"],
        model_type="minicpm",
        architectures=["LayerWiseMiniCPMForCausalLM"],
        **dict(scale_emb=3, scale_depth=1.4, start_layer=1, head_multi=True, head_type="simple"),
        **(dict(cutoff_layers=cut) if cut else {}),
    )
    check_packed(folder, [x[-1] @ scores[(cut or 3) - 1].T for x in hidden], "classify")
    remodel(folder, lambda t: t, cutoff_layers=[0])
    with pytest.raises(ValueError, match="cutoff_layers must be one layer in 1..3"):
        open_checkpoint(folder)
