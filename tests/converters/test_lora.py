"""LoRA adapters merged at load, against PEFT's own merge."""

import json
import shutil

import numpy as np
import peft
import pytest
import torch
import transformers as hf
from parity import save_random
from safetensors.torch import load_file

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError
from tests.conftest import MINILM

# PEFT asks transformers' models for an attribute that transformers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

BERT = hf.BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=20,
    max_position_embeddings=24,
    num_labels=3,
)
LLAMA = hf.LlamaConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=20,
)
CASES = {
    "plain": (hf.BertModel, BERT, {"target_modules": ["query", "value"]}),
    "classifier": (
        hf.BertForSequenceClassification,
        BERT,
        {
            "target_modules": ["query", "word_embeddings", "intermediate.dense"],
            "task_type": "SEQ_CLS",
            "use_rslora": True,
            "bias": "all",
        },
    ),
    "patterns": (
        hf.BertModel,
        BERT,
        {
            "target_modules": "all-linear",
            "rank_pattern": {"query": 3},
            "alpha_pattern": {r"encoder\.layer\.1\.attention\.self\.query": 9},
            "bias": "lora_only",
        },
    ),
    "dora": (
        hf.BertModel,
        BERT,
        {"target_modules": ["key", "word_embeddings"], "use_dora": True, "use_rslora": True},
    ),
    "decoder": (hf.LlamaModel, LLAMA, {"target_modules": ["q_proj", "down_proj"]}),
}


def save_adapter(base, model_class, options, target):
    """An adapter with random weights; what PEFT makes of it merged, by name."""
    model = model_class.from_pretrained(base)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=5, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in wrapped.parameters():
            if tensor.requires_grad:
                tensor.copy_(0.3 * torch.randn_like(tensor))
    wrapped.save_pretrained(target)
    return wrapped.merge_and_unload()


@pytest.fixture(params=CASES)
def adapted(request, tmp_path):
    """Folders of a base and its adapter, and PEFT's merged model."""
    model_class, config, options = CASES[request.param]
    base = save_random(model_class, config, tmp_path / "base")
    return (
        base,
        tmp_path / "adapter",
        save_adapter(base, model_class, options, tmp_path / "adapter"),
    )


def exported(checkpoint, folder):
    """The tensors on disk of a checkpoint that was read and written."""
    folder.mkdir()
    checkpoint.write(checkpoint.read(np.float32, lambda path, array: array), folder)
    assert not (folder / "adapter_config.json").exists()
    return load_file(folder / "model.safetensors")


def test_merged_tensors_are_those_of_peft(adapted, tmp_path):
    base, adapter, merged = adapted
    ours = exported(open_checkpoint(base, adapter=adapter), tmp_path / "ours")
    merged.save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_allclose(ours[name], tensor, rtol=0, atol=1e-6, err_msg=name)
    original = load_file(base / "model.safetensors")
    assert any(not torch.equal(original[name], tensor) for name, tensor in ours.items())


@pytest.fixture
def plain(tmp_path):
    """A base and a plain adapter of it."""
    model_class, config, options = CASES["plain"]
    base = save_random(model_class, config, tmp_path / "base")
    save_adapter(base, model_class, options, tmp_path / "adapter")
    return base, tmp_path / "adapter"


def test_prefixes_and_torch_files_make_no_difference(plain, tmp_path):
    base, adapter = plain
    wanted = exported(open_checkpoint(base, adapter=adapter), tmp_path / "a")
    model = base / "model.safetensors"
    torch.save({f"bert.{n}": t for n, t in load_file(model).items()}, base / "pytorch_model.bin")
    model.unlink()
    weights = adapter / "adapter_model.safetensors"
    torch.save(load_file(weights), adapter / "adapter_model.bin")
    weights.unlink()
    found = exported(open_checkpoint(base, adapter=adapter), tmp_path / "b")
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[f"bert.{name}"], tensor, rtol=0, atol=0)


def test_an_adapter_in_the_folder_or_alone(plain, tmp_path):
    base, adapter = plain
    wanted = exported(open_checkpoint(base, adapter=adapter), tmp_path / "a")
    alone = exported(open_checkpoint(adapter), tmp_path / "b")
    shutil.copytree(adapter, base, dirs_exist_ok=True)
    beside = exported(open_checkpoint(base), tmp_path / "c")
    for name, tensor in wanted.items():
        assert torch.equal(alone[name], tensor) and torch.equal(beside[name], tensor)


def test_an_orbax_folder_takes_no_adapter(plain, tmp_path):
    """Its tree is restored as it is: an adapter would be left out in silence."""
    from converters.files import orbax

    base, adapter = plain
    (tmp_path / "orbax").mkdir()
    orbax.save(open_checkpoint(base), tmp_path / "orbax")
    with pytest.raises(CheckpointError, match="holds an Orbax tree; export the merged model"):
        open_checkpoint(tmp_path / "orbax", adapter=adapter)


@pytest.mark.parametrize("dora", [False, True])
def test_transposed_weights(dora, tmp_path):
    """GPT-2 keeps its linear layers transposed (fan_in_fan_out)."""
    from converters.files.tensors import Tensors, weight_files
    from converters.lora import Merged

    config = hf.GPT2Config(
        vocab_size=40,
        n_embd=12,
        n_layer=1,
        n_head=2,
        n_positions=16,
        bos_token_id=1,
        eos_token_id=1,
    )
    base = save_random(hf.GPT2Model, config, tmp_path / "base")
    options = {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True, "use_dora": dora}
    merged = save_adapter(base, hf.GPT2Model, options, tmp_path / "adapter")
    tensors = Merged(Tensors(weight_files(base)), tmp_path / "adapter", str, "transformer.")
    for name, tensor in merged.state_dict().items():
        np.testing.assert_allclose(tensors[name], tensor, rtol=0, atol=1e-6)


def change(adapter, **fields):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_an_adapter_of_another_base(plain, tmp_path):
    base, adapter = plain
    change(adapter, base_model_name_or_path="someone/wider")
    narrow = hf.BertConfig(**(BERT.to_dict() | {"hidden_size": 12}))
    other = save_random(hf.BertModel, narrow, tmp_path / "narrow")
    error = r"another base \(someone/wider\): encoder.layer.0.attention.self.query.weight wanted "
    with pytest.raises(CheckpointError, match=error + r"\(16, 16\), found \(12, 12\)"):
        open_checkpoint(other, adapter=adapter)
    llama = save_random(hf.LlamaModel, LLAMA, tmp_path / "llama")
    with pytest.raises(CheckpointError, match=error + r"\(16, 16\), found no such tensor"):
        open_checkpoint(llama, adapter=adapter)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"peft_type": "IA3"}, "wanted peft_type LORA, found IA3"),
        ({"lora_bias": True}, "lora_bias=True is not supported"),
        ({"use_dora": True}, "lora_magnitude_vector'.: wanted beside"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_other_adapters_are_refused_by_field(plain, fields, error):
    base, adapter = plain
    change(adapter, **fields)
    with pytest.raises(CheckpointError, match=error):
        open_checkpoint(base, adapter=adapter)


def test_no_adapter(plain, tmp_path):
    base, _ = plain
    with pytest.raises(FileNotFoundError, match="no LoRA adapter in .*base"):
        open_checkpoint(base, adapter=base)


def test_load_merges(minilm, tmp_path):
    folder = minilm.model.checkpoint.folder
    options = {"target_modules": ["query"], "layers_to_transform": [1]}
    merged = save_adapter(folder, hf.BertModel, options, tmp_path)
    merged = merged.state_dict()["encoder.layer.1.attention.self.query.weight"]
    kernel = jaxpool.load(MINILM, lora_path=str(tmp_path)).params["layers"]["attention"]["query"]
    np.testing.assert_allclose(
        np.asarray(kernel["kernel"][1]).reshape(384, 384), merged.T, rtol=0, atol=1e-6
    )
