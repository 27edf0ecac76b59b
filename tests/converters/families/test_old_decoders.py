"""Decoders that differ by a switch or two, old and new, and encoders made of them."""

import pytest
import transformers as hf
from parity import check, check_packed, reference, save_random, texts
from test_decoders import COMMON, ENDINGS, TWO_TABLES, class_of

from converters.checkpoint import open_checkpoint

PLAIN = {x: y for x, y in COMMON.items() if x not in ("rms_norm_eps", "head_dim")}
WIDE = PLAIN | dict(hidden_size=60)
SQUARE = {x: y for x, y in WIDE.items() if x != "num_key_value_heads"}
GPT = dict(
    vocab_size=97, n_embd=36, n_layer=3, n_head=6, n_positions=64, pad_token_id=0, num_labels=3
)
TURN = dict(rope_type="default", rope_theta=700.0, partial_rotary_factor=0.6)
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
FALCON = {x: y for x, y in SQUARE.items() if x != "intermediate_size"} | dict(ffn_hidden_size=52)
CONFIGS = {
    "GPTNeoX": hf.GPTNeoXConfig(**SQUARE, rope_parameters=TURN, hidden_act="gelu"),
    "GPTNeoX, one after the other": hf.GPTNeoXConfig(**SQUARE, use_parallel_residual=False),
    "GPTJ": hf.GPTJConfig(**GPT, rotary_dim=4, n_inner=50),
    "Falcon": hf.FalconConfig(**FALCON),
    "Falcon, new": hf.FalconConfig(
        **FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True
    ),
    "Falcon, with a head of keys each": hf.FalconConfig(
        **FALCON, multi_query=False, parallel_attn=False, bias=True
    ),
    "Cohere": hf.CohereConfig(**WIDE, use_qk_norm=True),
    "Cohere2": hf.Cohere2Config(**WIDE, head_dim=10, sliding_window=7, layer_types=KINDS),
    "Phi": hf.PhiConfig(**WIDE, qk_layernorm=True, rope_parameters=TURN),
    "StableLm": hf.StableLmConfig(**WIDE, use_qkv_bias=True, rope_parameters=TURN),
    "StableLm, parallel": hf.StableLmConfig(
        **WIDE, use_parallel_residual=True, qk_layernorm=True, rope_parameters=TURN
    ),
    "Bloom": hf.BloomConfig(
        vocab_size=97, hidden_size=36, n_layer=3, n_head=6, pad_token_id=0, num_labels=3
    ),
    "Mpt": hf.MptConfig(
        vocab_size=97, d_model=40, n_layers=3, n_heads=4, pad_token_id=0, num_labels=3
    ),
    "GPTNeo": hf.GPTNeoConfig(
        vocab_size=97,
        hidden_size=36,
        num_layers=3,
        num_heads=6,
        attention_types=[[["global", "local", "local"], 1]],
        window_size=5,
        max_position_embeddings=64,
        pad_token_id=0,
        num_labels=3,
    ),
    "GPTBigCode": hf.GPTBigCodeConfig(**GPT),
    "GPTBigCode, with a head of keys each": hf.GPTBigCodeConfig(**GPT, multi_query=False),
    "OpenAIGPT": hf.OpenAIGPTConfig(**GPT),
    "OPT": hf.OPTConfig(**SQUARE, ffn_dim=50),
    "OPT, norms after": hf.OPTConfig(**SQUARE, ffn_dim=50, do_layer_norm_before=False),
    "BioGpt": hf.BioGptConfig(**SQUARE),
    "Nemotron": hf.NemotronConfig(**WIDE, mlp_bias=True, rope_parameters=TURN),
    "Persimmon": hf.PersimmonConfig(**SQUARE, rope_parameters=TURN),
    "Olmo": hf.OlmoConfig(**WIDE, attention_bias=True),
    "Olmoe": hf.OlmoeConfig(
        **WIDE | dict(intermediate_size=52),
        num_experts=5,
        num_experts_per_tok=2,
        norm_topk_prob=True,
    ),
    "Exaone4": hf.Exaone4Config(**WIDE, sliding_window=7, layer_types=KINDS),
    "Cwm": hf.CwmConfig(**WIDE, head_dim=10, sliding_window=7, layer_types=KINDS),
    "Ultrabert": hf.UltrabertConfig(
        **WIDE,
        sliding_window=4,
        prediction_head_size=20,
        classifier_pooling="mean",
        layer_types=KINDS,
        rope_parameters=TWO_TABLES,
    ),
    "Esmc": hf.EsmcConfig(**SQUARE),
    "Jais2": hf.Jais2Config(**WIDE),
    "VaultGemma": hf.VaultGemmaConfig(
        **WIDE, head_dim=10, sliding_window=7, layer_types=KINDS, query_pre_attn_scalar=5
    ),
    "Gemma3": hf.Gemma3Config(
        text_config=dict(**WIDE, head_dim=10, sliding_window=7, layer_types=KINDS),
        vision_config=dict(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
        ),
        num_labels=3,
    ),
    "Apertus": hf.ApertusConfig(**WIDE, head_dim=10, dtype="float32"),
    "HunYuanDenseV1": hf.HunYuanDenseV1Config(
        **WIDE,
        head_dim=10,
        rope_parameters={"rope_type": "dynamic", "alpha": 5.0, "factor": 1.0, "rope_theta": 50.0},
    ),
    "Helium": hf.HeliumConfig(**WIDE, head_dim=10, attention_bias=True),
    "Ernie4_5": hf.Ernie4_5Config(**WIDE, head_dim=10, use_bias=True),
}
ENDINGS = ENDINGS | {"ForMaskedLM": "sparse"}
FAST = ("GPTNeoX", "Persimmon", "Bloom")  # branches side by side, norms, slopes


def save(model_class, config, folder):
    """Random weights; Nemotron's and Gemma's norms lie around 0: they are stored less one."""
    name = model_class.__name__
    scale = 0.0 if "Nemotron" in name or "Gemma" in name else 1.0
    return save_random(model_class, config, folder, scale=scale)


def param(name, *rest, slow=True):
    return pytest.param(name, *rest, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "Gemma3"])  # a part alone
def test_hidden_states(name, tmp_path):
    model_class = class_of(CONFIGS[name])
    check(save(model_class, CONFIGS[name], tmp_path / "model"), model_class)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        param(name, ending, slow=name not in FAST or ending != "ForSequenceClassification")
        for name, config in CONFIGS.items()
        for ending in ENDINGS
        if class_of(config, ending)
    ],
)
def test_heads(name, ending, tmp_path):
    model_class = class_of(CONFIGS[name], ending)
    folder = save(model_class, CONFIGS[name], tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), ENDINGS[ending])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("Falcon", {"alibi": True}, "alibi must be False, found True"),
        ("Olmo", {"clip_qkv": 8.0}, "clip_qkv must be None, found 8.0"),
        ("OPT", {"word_embed_proj_dim": 20}, "word_embed_proj_dim must be 60, found 20"),
    ],
)
def test_what_is_not_implemented_is_refused(name, fields, message, tmp_path):
    folder = save(class_of(CONFIGS[name]), CONFIGS[name], tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        open_checkpoint(folder, fields)
