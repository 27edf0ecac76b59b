"""Decoders that transformers runs by remote code: built from a native relative's tensors."""

import json

import numpy as np
import pytest
import transformers as hf
from parity import check_half, check_packed, cosine, reference, save_random, texts
from published import publish
from safetensors.numpy import load_file, save_file
from test_decoders import COMMON

from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError
from jaxpool.nn.params import flatten, unflatten

LLAMA = COMMON | dict(attention_bias=True)


def remodel(folder, change, drop=(), **fields):
    """Rewrite the tensors and fields of a checkpoint."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    publish(folder, drop, **fields)
    return folder


def relative(model_class, config, folder):
    """A random native model, and its hidden states of the `texts`."""
    save_random(model_class, config, folder)
    model = model_class.from_pretrained(folder).eval()
    return reference(model, texts(97), False, "last_hidden_state")


def export(checkpoint, target):
    """The folder that jaxpool writes of what it reads."""
    tree = checkpoint.read(np.float32, lambda path, array: array)
    target.mkdir()
    checkpoint.write(unflatten(flatten(tree)), target)
    return target


def round_trip(folder, target):
    """What jaxpool reads and writes again is the same, byte for byte."""
    export(open_checkpoint(folder), target)
    before, after = (load_file(f / "model.safetensors") for f in (folder, target))
    assert before.keys() - {"output.weight"} == after.keys()
    for name, tensor in after.items():
        np.testing.assert_array_equal(tensor, before[name])


INTERNLM2 = {
    "embed_tokens": "tok_embeddings",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def internlm2(tensors):
    """Llama's tensors under InternLM2's names; of each kv head, its queries, key and value."""
    heads, kv, dim = (LLAMA[x] for x in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    named = {}
    for name, tensor in tensors.items():
        for theirs, ours in INTERNLM2.items():
            name = name.replace(theirs, ours)
        named["model." + name] = tensor
    for kind in ("weight", "bias"):
        for i in range(LLAMA["num_hidden_layers"]):
            q, k, v = (named.pop(f"model.layers.{i}.self_attn.{x}_proj.{kind}") for x in "qkv")
            rest = q.shape[1:]
            parts = [q.reshape(kv, heads // kv, dim, *rest)]
            parts += [x.reshape(kv, 1, dim, *rest) for x in (k, v)]
            fused = np.concatenate(parts, axis=1).reshape(-1, *rest)
            named[f"model.layers.{i}.attention.wqkv.{kind}"] = np.ascontiguousarray(fused)
    return named


def test_internlm2_reward(tmp_path):
    folder = tmp_path / "model"
    hidden = relative(hf.LlamaModel, hf.LlamaConfig(**LLAMA), folder)
    value = np.random.default_rng(0).normal(size=(1, 36)).astype(np.float32)
    remodel(
        folder,
        lambda tensors: internlm2(tensors) | {"v_head.weight": value},
        model_type="internlm2",
        architectures=["InternLM2ForRewardModel"],
        attention_bias=None,
        bias=True,
    )
    check_packed(folder, hidden)
    check_half(folder, hidden)
    check_packed(folder, [x @ value.T for x in hidden], "token_classify")
    round_trip(folder, tmp_path / "exported")


TELECHAT = {
    "layers.": "h.",
    "embed_tokens": "word_embeddings",
    "self_attn.q_proj": "self_attention.query",
    "self_attn.o_proj": "self_attention.dense",
}


def telechat(tensors):
    """Llama's tensors under TeleChat2's names; of each kv head, its key and value."""
    named = {}
    for name, tensor in tensors.items():
        for theirs, ours in TELECHAT.items():
            name = name.replace(theirs, ours)
        named["transformer." + ("ln_f.weight" if name == "norm.weight" else name)] = tensor
    for i in range(LLAMA["num_hidden_layers"]):
        stem = f"transformer.h.{i}.self_attn"
        k, v = (named.pop(f"{stem}.{x}_proj.weight").reshape(2, 1, 10, 36) for x in "kv")
        fused = np.concatenate([k, v], axis=1).reshape(-1, 36)
        named[f"transformer.h.{i}.self_attention.key_value.weight"] = fused
    silent = ("query.bias", "k_proj.bias", "v_proj.bias", "gate_proj.bias", "up_proj.bias")
    return {name: tensor for name, tensor in named.items() if not name.endswith(silent)}


def test_telechat(tmp_path):
    """Trained on four times the length of its first training: the base has grown sevenfold."""
    rope = {"rope_type": "default", "rope_theta": 100.0 * 7 ** (10 / 8)}
    config = hf.LlamaConfig(**LLAMA, mlp_bias=True, rope_parameters=rope)
    folder = tmp_path / "model"
    save_random(hf.LlamaModel, config, folder)
    silent = [f"{x}_proj.bias" for x in ("q", "k", "v", "gate", "up")]
    remodel(folder, lambda t: {n: x * (not n.endswith(tuple(silent))) for n, x in t.items()})
    model = hf.LlamaModel.from_pretrained(folder).eval()
    hidden = reference(model, texts(97), False, "last_hidden_state")
    fields = {"training_seqlen": 64, "base_seqlen": 16, "ffn_hidden_size": 50, "n_layer": 3}
    fields |= {"n_head": 6, "layer_norm_epsilon": 1e-5, "rope_theta": 100.0}
    drop = ["rope_parameters", "attention_bias", "mlp_bias", "intermediate_size", "rms_norm_eps"]
    drop += ["max_position_embeddings", "num_hidden_layers", "num_attention_heads"]
    remodel(folder, telechat, model_type="telechat", drop=drop, **fields)
    check_packed(folder, hidden)
    check_half(folder, hidden)
    round_trip(folder, tmp_path / "exported")


@pytest.fixture(scope="module")
def bidirectional(tmp_path_factory):
    """A Llama without a causal mask, and its hidden states."""
    folder = tmp_path_factory.mktemp("bidirectional") / "model"
    return folder, relative(hf.LlamaModel, hf.LlamaConfig(**LLAMA, is_causal=False), folder)


POOLED = {"avg": lambda x: x.mean(0), "cls": lambda x: x[0], "last": lambda x: x[-1]}


@pytest.mark.parametrize("pooling", POOLED)
def test_llama_bidirectional(pooling, bidirectional):
    folder, hidden = bidirectional
    fields = dict(model_type="llama_bidirec", pooling=pooling, is_causal=None)
    names = ["LlamaBidirectionalModel"]
    remodel(folder, lambda tensors: tensors, architectures=names, **fields)
    if pooling == "avg":
        check_packed(folder, hidden)
        check_half(folder, hidden)
    kind = {"avg": "mean", "cls": "cls", "last": "lasttoken"}[pooling]
    assert open_checkpoint(folder).pool == kind

    score = np.random.default_rng(0).normal(size=(3, 36)).astype(np.float32)
    names = ["LlamaBidirectionalForSequenceClassification"]
    remodel(
        folder,
        lambda tensors: tensors | {"score.weight": score},
        architectures=names,
        temperature=0.2,
    )
    check_packed(folder, [POOLED[pooling](x) @ score.T / 0.2 for x in hidden], "classify")
    remodel(folder, lambda tensors: {k: v for k, v in tensors.items() if k != "score.weight"})


def test_llama_bidirectional_must_say_how_to_pool(bidirectional):
    folder, _ = bidirectional
    remodel(folder, lambda t: t, architectures=["LlamaBidirectionalModel"], pooling=None)
    with pytest.raises(ValueError, match="pooling must be one of"):
        _ = open_checkpoint(folder).pool


def test_voyage(tmp_path):
    """Published with Qwen3's model_type; the architecture's name comes by an override."""
    config = hf.Qwen3Config(**COMMON | dict(num_labels=20), is_causal=False)
    folder = tmp_path / "model"
    hidden = relative(hf.Qwen3Model, config, folder)
    linear = np.random.default_rng(0).normal(size=(20, 36)).astype(np.float32)
    prefixed = lambda tensors: {f"model.{k}": v for k, v in tensors.items()}  # noqa: E731
    names = ["VoyageQwen3BidirectionalEmbedModel"]
    remodel(
        folder,
        lambda tensors: prefixed(tensors) | {"linear.weight": linear},
        is_causal=None,
        architectures=names,
    )
    check_packed(folder, [x @ linear.T for x in hidden], "embed")
    round_trip(folder, tmp_path / "exported")


def test_voyage_embeds_means_of_its_projection(tmp_path):
    from jaxpool import LLM
    from tests.small import TEXTS, add_tokenizer
    from tests.tasks.test_reward import SIZES

    folder = tmp_path / "model"
    save_random(hf.Qwen3Model, hf.Qwen3Config(**SIZES, num_labels=20), folder)
    linear = np.random.default_rng(0).normal(size=(20, 32)).astype(np.float32)
    remodel(folder, lambda tensors: tensors | {"linear.weight": linear})
    add_tokenizer(folder)
    names = {"architectures": ["VoyageQwen3BidirectionalEmbedModel"]}
    llm = LLM(str(folder), hf_overrides=names)
    output = llm.embed(TEXTS[:1], use_tqdm=False)[0]
    assert llm.pooling_task == "embed"
    config = hf.Qwen3Config.from_pretrained(folder)
    config.is_causal = False
    model = hf.Qwen3Model.from_pretrained(folder, config=config).eval()
    ids = np.array(output.prompt_token_ids)
    (hidden,) = reference(model, [ids], False, "last_hidden_state")
    wanted = (hidden @ linear.T).mean(0)
    assert abs(np.linalg.norm(output.outputs.embedding) - 1) < 1e-5
    assert cosine(np.array(output.outputs.embedding), wanted) >= 0.99999


@pytest.mark.parametrize("decoder", [True, False])
def test_jina_v5_merges_the_adapter_of_its_task(decoder, tmp_path):
    """Qwen3, or EuroBERT (a Llama that sees both ways): the base and one adapter a task."""
    native = (hf.Qwen3Model, hf.Qwen3Config) if decoder else (hf.LlamaModel, hf.LlamaConfig)
    config = native[1](**COMMON, **{} if decoder else {"is_causal": False})
    folder, name = tmp_path / "model", "layers.1.self_attn.q_proj"
    random = np.random.default_rng(0)
    a, b = (random.normal(size=s).astype(np.float32) for s in ((4, 36), (60, 4)))
    save_random(native[0], config, folder)
    fields = {"model_type": "jina_embeddings_v5", "architectures": ["JinaEmbeddingsV5Model"]}
    fields |= {"is_causal": None} if decoder else {"is_causal": None, "is_decoder": False}
    adapter = folder / "adapters" / "text-matching"
    adapter.mkdir(parents=True)
    facts = {"peft_type": "LORA", "r": 4, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(facts))
    stem = f"base_model.model.{name}"
    tensors = {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
    save_file(tensors, adapter / "adapter_model.safetensors")

    merged = tmp_path / "merged"
    save_random(native[0], config, merged)
    key = f"{name}.weight"
    remodel(merged, lambda t: t | {key: t[key] + 0.5 * b @ a})
    model = native[0].from_pretrained(merged).eval()
    wanted = reference(model, texts(97), False, "last_hidden_state")
    remodel(folder, lambda t: t, jina_task="text-matching", **fields)
    check_packed(folder, wanted)
    check_half(folder, wanted)
    with pytest.raises(ValueError, match="jina_task 'poetry' is unknown"):
        open_checkpoint(folder, {"jina_task": "poetry"})
    with pytest.raises(FileNotFoundError, match="no LoRA adapter"):
        open_checkpoint(folder, {"jina_task": "retrieval"})

    exported = export(open_checkpoint(folder), tmp_path / "exported")
    remodel(exported, lambda t: t, jina_task=None)
    check_packed(exported, wanted)
    with pytest.raises(CheckpointError, match="adapters/text-matching is merged into these"):
        open_checkpoint(exported, {"jina_task": "retrieval"})


def test_jina_reranker_projects_tokens(tmp_path):
    folder = tmp_path / "model"
    hidden = relative(hf.Qwen3Model, hf.Qwen3Config(**COMMON), folder)
    random = np.random.default_rng(0)
    first, second = (random.normal(size=s).astype(np.float32) for s in ((18, 36), (24, 18)))
    remodel(
        folder,
        lambda tensors: (
            {f"model.{k}": v for k, v in tensors.items()}
            | {"projector.0.weight": first, "projector.2.weight": second}
        ),
        architectures=["JinaForRanking"],
    )
    wanted = [np.maximum(x @ first.T, 0) @ second.T for x in hidden]
    check_packed(folder, wanted, "token_embed")
    round_trip(folder, tmp_path / "exported")
