"""Folders with the files that are published, each loaded once: pooling, prompts and lengths."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from parity import save_random
from published import publish
from safetensors.torch import load_file, save_file

from jaxpool import LLM, load
from tests.images.joined_models import TEXT, add_tokenizer

INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\n"
TEXTS = ["Where is it?", "a", "A cat sat on the mat and looked at the dog"]
GEMMA = dict(layer_types=["sliding_attention"] * 2 + ["full_attention"], sliding_window=8)
MODERN = dict(
    vocab_size=TEXT["vocab_size"],
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    local_attention=8,
    pad_token_id=0,
)
# By the name: class and configuration, pooling, prompts, and files beside it.
FOLDERS = {
    "harrier-oss-v1-0.6b": (
        (hf.Qwen3Model, hf.Qwen3Config(**TEXT)),
        "lasttoken",
        {"web_search_query": f"{INSTRUCT}Query: "},
        {},
    ),
    "harrier-oss-v1-270m": (
        (hf.Gemma3TextModel, hf.Gemma3TextConfig(**TEXT, **GEMMA)),
        "lasttoken",
        {"web_search_query": f"{INSTRUCT}Query: "},
        {},
    ),
    "Octen-Embedding-0.6B": (
        (hf.Qwen3Model, hf.Qwen3Config(**TEXT)),
        "lasttoken",
        {},
        {"2_Normalize/config.json": {"normalize_embeddings": True}},
    ),
    "F2LLM-v2-0.6B": ((hf.Qwen3Model, hf.Qwen3Config(**TEXT)), "lasttoken", {}, {}),
    "KaLM-Embedding-Gemma3-12B-2511": (
        (hf.Gemma3TextModel, hf.Gemma3TextConfig(**TEXT, **GEMMA)),
        "lasttoken",
        {"query": f"{INSTRUCT}Query:"},
        {},
    ),
    "zembed-1-embedding": (
        (hf.Qwen3Model, hf.Qwen3Config(**TEXT)),
        "lasttoken",
        {},
        {"sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False}},
    ),
    "granite-embedding-english-r2": (
        (hf.ModernBertModel, hf.ModernBertConfig(**MODERN)),
        "cls_token",
        {},
        {"sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False}},
    ),
}


def save(folder, model_class, config):
    """Weights and a tokenizer; Gemma stores its norms less one."""
    save_random(model_class, config, folder, scale=0.5 if "Gemma" in model_class.__name__ else 1)
    add_tokenizer(folder)
    return folder


def modules(folder, kinds):
    """modules.json, in the words of every version before 5.4."""
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{where}.{kind}"}
        for i, (where, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))


def hidden(folder, text, model_class=hf.AutoModel):
    """The last hidden states, or the logits, of torch's model."""
    ids = hf.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model_class.from_pretrained(folder).eval()(input_ids=ids)[0][0].numpy()


FAST = {"Octen-Embedding-0.6B"}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=() if x in FAST else pytest.mark.slow) for x in FOLDERS]
)
def test_embeddings(name, tmp_path):
    made, pooling, prompts, files = FOLDERS[name]
    folder = save(tmp_path / name, *made)
    old = "sentence_transformers.models"
    modules(folder, [(old, kind) for kind in ("Transformer", "Pooling", "Normalize")])
    # F2LLM and others name another width here than that of the model, which nothing reads.
    pool = {"word_embedding_dimension": 1024, f"pooling_mode_{pooling}": True}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    files = {"config_sentence_transformers.json": settings, "1_Pooling/config.json": pool} | files
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    model = load(str(folder))
    asked = {"": TEXTS} | {kind: TEXTS[:1] for kind in prompts}
    for kind, texts in asked.items():
        at = 0 if pooling == "cls_token" else -1
        wanted = np.stack([hidden(folder, prompts.get(kind, "") + text)[at] for text in texts])
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_allclose(model.encode(texts, prompt_name=kind or None), wanted, atol=2e-5)
    assert "sentence_bert_config.json" not in files or model.max_length == 512


@pytest.mark.parametrize("architecture", ["Splade", "Qwen3ForCausalLM"])
def test_splade_code(architecture, tmp_path):
    """Qwen3 that attends both ways; word weights of its tied head, though none is called masked."""
    config = hf.Qwen3Config(**TEXT, tie_word_embeddings=True, is_causal=False)
    folder = save(tmp_path / "splade-code-06B", hf.Qwen3ForCausalLM, config)
    publish(folder, architectures=[architecture])
    old = "sentence_transformers.sparse_encoder.models"
    modules(folder, [(old, kind) for kind in ("MLMTransformer", "SpladePooling")])
    (folder / "1_SpladePooling").mkdir()
    pool = {"pooling_strategy": "max", "activation_function": "relu"}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(pool))
    llm = LLM(str(folder))
    assert "sparse" in llm.model.tasks and not llm.model.arch.causal
    found = llm.encode(TEXTS[:1], pooling_task="sparse", use_tqdm=False)[0].outputs.data
    wanted = np.log1p(hidden(folder, TEXTS[0], hf.Qwen3ForCausalLM).clip(0)).max(0)
    assert np.count_nonzero(wanted) > 50
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_splade_code_as_an_adapter(tmp_path):
    """The 8B: lora/ holds an adapter that names its base, above it a config.json that is not its.

    The base attends to the past alone, and has no modules.
    """
    config = hf.Qwen3Config(**TEXT, tie_word_embeddings=True)
    base = save(tmp_path / "base", hf.Qwen3ForCausalLM, config)
    folder = tmp_path / "splade-code-8B"
    folder.mkdir()
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    publish(folder, is_causal=False)
    old = "sentence_transformers.sparse_encoder.models"
    modules(folder, [(old, kind) for kind in ("MLMTransformer", "SpladePooling")])
    (folder / "1_SpladePooling").mkdir()
    (folder / "1_SpladePooling" / "config.json").write_text('{"pooling_strategy": "max"}')
    tensors, adapter = load_file(base / "model.safetensors"), {}
    for name in [n for n in tensors if "q_proj" in n or "down_proj" in n]:
        (rows, columns), stem = tensors[name].shape, name.removesuffix(".weight")
        low = [0.1 * torch.randn(size) for size in ((3, columns), (rows, 3))]
        adapter |= {
            f"base_model.model.{stem}.lora_{x}.weight": y for x, y in zip("AB", low, strict=True)
        }
        tensors[name] = tensors[name] + 2 * low[1] @ low[0]
    settings = dict(peft_type="LORA", r=3, lora_alpha=6, base_model_name_or_path=str(base))
    (folder / "lora").mkdir()
    (folder / "lora" / "adapter_config.json").write_text(json.dumps(settings))
    save_file(adapter, folder / "lora" / "adapter_model.safetensors")
    merged = shutil.copytree(base, tmp_path / "merged")
    publish(merged, is_causal=False)
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    llm = LLM(str(folder))
    found = llm.encode(TEXTS[:1], pooling_task="sparse", use_tqdm=False)[0].outputs.data
    wanted = hidden(merged, TEXTS[0], hf.Qwen3ForCausalLM)
    np.testing.assert_allclose(found, np.log1p(wanted.clip(0)).max(0), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmBERT-base", "ettin-encoder-17m"])
def test_encoders_without_modules(name, tmp_path):
    """Pretrained alone, under a masked language model's name, rotations in the older fields."""
    config = hf.ModernBertConfig(**MODERN)
    folder = save(tmp_path / name, hf.ModernBertForMaskedLM, config)
    thetas = {"global_rope_theta": 160000.0, "local_rope_theta": 160000.0 / 16 ** ("ettin" in name)}
    publish(folder, drop=["rope_parameters"], position_embedding_type="sans_pos", **thetas)
    model = load(str(folder), convert="embed", pooler_config={"pooling_type": "MEAN"})
    wanted = np.stack([hidden(folder, text).mean(0) for text in TEXTS])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(TEXTS), wanted, atol=2e-5)
