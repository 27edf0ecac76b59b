"""Decoders as pooling models against Hugging Face torch, with non-default configurations."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from parity import check, check_packed, reference, save_random, texts
from safetensors.numpy import load_file, save_file

from converters.checkpoint import open_checkpoint
from converters.rotary import rotary
from jaxpool.engine.batch import Batch
from jaxpool.nn.arch import Arch
from jaxpool.nn.positions import rotary_tables

HIDDEN = "last_hidden_state"
LENGTHLESS = Arch(vocab=1, layers=1, dim=1, heads=1, kv_heads=1, head_dim=128, mlp_dim=1)

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
TWO_TABLES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 900.0},
}
# Families that come to the same `Arch` under these compile once.
CONFIGS = {
    "Llama": hf.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True, sliding_window=7),
    "Mistral": hf.MistralConfig(**COMMON, sliding_window=7),
    "Qwen2": hf.Qwen2Config(**COMMON),
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
        rope_parameters=TWO_TABLES,
    ),
    "Phi3": hf.Phi3Config(
        **COMMON | dict(hidden_size=60),
        sliding_window=7,
        rope_parameters={
            "rope_type": "longrope",
            "partial_rotary_factor": 0.6,
            "short_factor": [1.0, 1.1, 1.3],
            "long_factor": [1.2, 2.0, 4.0],
        },
        original_max_position_embeddings=12,
    ),
    "Glm": hf.GlmConfig(**COMMON, attention_bias=True, partial_rotary_factor=0.6),
    "Glm4": hf.Glm4Config(**COMMON, attention_bias=True, partial_rotary_factor=0.6),
    "Arcee": hf.ArceeConfig(**COMMON, mlp_bias=True),
    "Ministral": hf.MinistralConfig(**COMMON, sliding_window=7),
    "Granite": hf.GraniteConfig(
        **COMMON | {"hidden_size": 60},
        attention_bias=True,
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.4,
    ),
    "Mixtral": hf.MixtralConfig(
        **COMMON | {"intermediate_size": 52}, num_local_experts=5, num_experts_per_tok=2
    ),
    "Olmo3": hf.Olmo3Config(
        **COMMON,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        rope_parameters=TWO_TABLES,
    ),
    "SeedOss": hf.SeedOssConfig(**COMMON),
    "Starcoder2": hf.Starcoder2Config(
        **COMMON | {"hidden_size": 60}, norm_epsilon=1e-4, sliding_window=7
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
# Decoders that attend both ways: their heads are their family's.
BOTH_WAYS = {
    "gte-Qwen2": hf.Qwen2Config(
        **COMMON,
        is_causal=False,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
    ),
    "EmbeddingGemma": hf.Gemma3TextConfig(
        **COMMON,
        use_bidirectional_attention=True,
        sliding_window=7,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
}
# Switches that others have: by default the logits of one head stand for these.
SLOW = ("Arcee", "Glm", "Glm4", "Mixtral", "Olmo3", "Starcoder2")
SCALINGS = {
    "linear": dict(factor=3.0),
    "dynamic": dict(factor=3.0),
    "yarn": dict(factor=4.0, original_max_position_embeddings=16, truncate=False, beta_fast=4.0),
    "yarn, mscale": dict(
        rope_type="yarn",
        factor=4.0,
        original_max_position_embeddings=16,
        mscale=0.7,
        mscale_all_dim=0.3,
    ),
    "llama3": dict(
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=16,
    ),
    "longrope": dict(
        short_factor=[1.0, 1.1, 1.3, 1.4, 1.5],
        long_factor=[1.2, 2.0, 4.0, 5.0, 9.0],
        original_max_position_embeddings=12,
    ),
}
ENDINGS = {"ForSequenceClassification": "classify", "ForTokenClassification": "token_classify"}


def save(model_class, config, folder, rename=lambda name: name):
    """Random weights; Gemma's norms lie around 0."""
    scale = 0.0 if "Gemma" in model_class.__name__ else 1.0
    return save_random(model_class, config, folder, rename, scale=scale)


def class_of(config, ending="Model"):
    """The class of a configuration; None where transformers has none with that ending."""
    return getattr(hf, type(config).__name__.removesuffix("Config") + ending, None)


def hidden_states(model_class, folder):
    """What torch gives each of the `texts` alone."""
    return reference(model_class.from_pretrained(folder).eval(), texts(97), False, HIDDEN)


def edit(folder, **fields):
    """Change fields of a config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def param(family, *rest, slow=True):
    """A case, which only `make test-slow` runs where it is `slow` and so is the family."""
    return pytest.param(family, *rest, marks=[pytest.mark.slow] if slow and family in SLOW else [])


@pytest.mark.parametrize("case", [param(case) for case in CONFIGS | BOTH_WAYS])
def test_hidden_states(case, tmp_path):
    config = (CONFIGS | BOTH_WAYS)[case]
    check(save(class_of(config), config, tmp_path / "model"), class_of(config))


@pytest.mark.parametrize(
    ("family", "ending"),
    [
        param(name, ending, slow=ending == "ForTokenClassification")
        for name, config in CONFIGS.items()
        for ending in ENDINGS
        if class_of(config, ending)
    ],
)
def test_heads(family, ending, tmp_path):
    model_class = class_of(CONFIGS[family], ending)
    folder = save(model_class, CONFIGS[family], tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), ENDINGS[ending])


@pytest.mark.parametrize("kind", SCALINGS)
def test_rotary_scaling(kind, tmp_path):
    """Texts on both sides of the trained length, packed: each turns as if it were alone."""
    scaling = {"rope_type": kind, "rope_theta": 700.0} | SCALINGS[kind]
    config = hf.LlamaConfig(**COMMON | dict(max_position_embeddings=16), rope_parameters=scaling)
    folder = save(hf.LlamaModel, config, tmp_path / "model")
    check_packed(folder, hidden_states(hf.LlamaModel, folder))


@pytest.mark.parametrize("kind", ["none", *SCALINGS])
def test_frequencies_far_beyond_the_trained_length(kind):
    """The tables themselves, of a real size, against transformers' functions in float32."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    factors = {
        name: (SCALINGS["longrope"][name] * 13)[:64] for name in ("short_factor", "long_factor")
    }
    scaling = {"rope_type": kind, "rope_theta": 1e6} | SCALINGS.get(kind, {})
    scaling |= factors if kind == "longrope" else {}
    if "original_max_position_embeddings" in scaling:
        scaling["original_max_position_embeddings"] = 4096
    scaling["rope_type"] = "default" if kind == "none" else scaling["rope_type"]
    config = hf.LlamaConfig(head_dim=128, max_position_embeddings=8192, rope_parameters=scaling)
    length = 20000
    table = rotary(config)
    batch = Batch(
        *(
            jnp.asarray(x)[None]
            for x in (
                np.zeros(length, np.int32),
                np.ones(length, np.int32),
                np.arange(length, dtype=np.int32),
            )
        )
    )
    ours = np.asarray(rotary_tables(LENGTHLESS.replace(rotary=(table,)), batch))[0, :, 0]
    if kind == "none":
        rates, factor = 1.0 / 1e6 ** (torch.arange(0, 128, 2).float() / 128), 1.0
    else:
        rates, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, seq_len=length)
    angles = torch.arange(length).float()[:, None] * rates
    wanted = torch.stack([angles.cos(), angles.sin()]).numpy() * factor
    # One unit in the last place of a rate, at position 20,000.
    np.testing.assert_allclose(ours, wanted, atol=20000 * 2.0**-23)


def test_names_of_causal_language_models(tmp_path):
    """The same tensors as *ForCausalLM (prefixed, with a head that nobody uses) and as *Model."""
    causal = save(hf.LlamaForCausalLM, CONFIGS["Llama"], tmp_path / "causal")
    plain = save(hf.LlamaModel, CONFIGS["Llama"], tmp_path / "plain")
    tensors = load_file(causal / "model.safetensors")
    tensors.pop("lm_head.weight")
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(tensors, plain / "model.safetensors")
    trees = [open_checkpoint(f).read(np.float32, lambda p, array: array) for f in (causal, plain)]
    jax.tree.map(np.testing.assert_array_equal, *trees)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope_parameters": {"rope_type": "spiral"}}, "rope_type 'spiral' is unknown"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"num_key_value_heads": 3}, r"k_proj.*num_key_value_heads"),
        ({"num_key_value_heads": 4}, r"heads \(6\) must be a multiple of"),
        ({"head_dim": 8}, r"q_proj.*head_dim"),
        ({"intermediate_size": 51}, r"mlp.*intermediate_size"),
    ],
)
def test_contradictions_name_the_field(fields, message, tmp_path):
    folder = save(hf.LlamaModel, CONFIGS["Llama"], tmp_path / "model")
    edit(folder, **fields)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(folder).read(np.float32, lambda path, array: array)
