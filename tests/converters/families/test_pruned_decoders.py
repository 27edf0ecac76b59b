"""Layers of several sizes, against torch whose layers have these sizes."""

import copy

import pytest
import torch
import transformers as hf
from parity import check_packed, reference, texts
from published import publish
from safetensors.torch import save_file
from test_decoders import COMMON
from test_remote_decoders import export, relative, remodel
from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP

from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError

SIZES = COMMON | dict(
    hidden_size=40, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4
)
NOTHING = {"no_op": True}
BLOCKS = [
    {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 16.0}},
    {"attention": {"n_heads_in_group": 4}, "ffn": {"intermediate_size": 48}},
    {"attention": NOTHING, "ffn": {"ffn_mult": 8.0}},
    {"attention": {"n_heads_in_group": 8}, "ffn": NOTHING},
]
FEATURES = [512, 48, 256, 1]  # 2 / 3 * 16 * 40 in whole 256


class Zero(nn.Module):
    """A part that is no operation."""

    def forward(self, hidden_states, **_):
        out = torch.zeros_like(hidden_states)
        return (out, None) if self.attends else out

    def __init__(self, attends):
        super().__init__()
        self.attends = attends


def pruned():
    """Llama in torch, with layers of the sizes of `BLOCKS` and random weights."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(**SIZES)
    model = hf.LlamaModel(config).eval()
    for i, (layer, block) in enumerate(zip(model.layers, BLOCKS, strict=True)):
        own = copy.deepcopy(config)
        own.intermediate_size = FEATURES[i]
        own.num_key_value_heads = 8 // block["attention"].get("n_heads_in_group", 8)
        attends = block["attention"] != NOTHING
        layer.self_attn = LlamaAttention(own, i) if attends else Zero(True)
        layer.mlp = LlamaMLP(own) if block["ffn"] != NOTHING else Zero(False)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(("norm" in name) + 0.1 * torch.randn_like(tensor))
    return model.eval()


def save(folder):
    """The folder as published: tensors of parts that are there alone."""
    model = pruned()
    folder.mkdir()
    model.config.save_pretrained(folder)
    silent = ("layers.2.input_layernorm", "layers.3.post_attention_layernorm")
    tensors = {
        f"model.{name}": x for name, x in model.state_dict().items() if not name.startswith(silent)
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    drop = ["num_key_value_heads", "intermediate_size"]
    names = dict(model_type="nemotron-nas", architectures=["DeciLMForCausalLM"])
    publish(folder, drop, **names, block_configs=BLOCKS)
    return model


def test_nemotron_nas(tmp_path):
    folder = tmp_path / "model"
    wanted = reference(save(folder), texts(97), False, "last_hidden_state")
    check_packed(folder, wanted)
    check_packed(export(open_checkpoint(folder), tmp_path / "exported"), wanted)
    remodel(folder, lambda t: {x: y for x, y in t.items() if "0.mlp.up_proj" not in x})
    with pytest.raises(CheckpointError, match="layers.0.mlp.up_proj"):
        open_checkpoint(folder).read(None, lambda path, array: array)
    linear = [{**BLOCKS[0], "ffn": {"replace_with_linear": True}}, *BLOCKS[1:]]
    publish(folder, block_configs=linear)
    with pytest.raises(CheckpointError, match="block_configs with .'replace_with_linear'."):
        open_checkpoint(folder)


@pytest.mark.slow
def test_telechat3(tmp_path):
    """YaRN whose cosines and sines have a factor of its own."""
    folder = tmp_path / "model"
    yarn = dict(rope_theta=700.0, factor=4.0, original_max_position_embeddings=16)
    own = dict(rope_type="yarn", attention_factor=1.0 + 0.07 * 1.3862943611198906)
    hidden = relative(hf.LlamaModel, hf.LlamaConfig(**COMMON, rope_parameters=yarn | own), folder)
    remodel(
        folder,
        lambda tensors: {f"model.{name}": x for name, x in tensors.items()},
        ["rope_parameters"],
        model_type="telechat3",
        architectures=["TeleChat3ForCausalLM"],
        rope_theta=700.0,
        rope_scaling=yarn | {"type": "telechat3-yarn"},
    )
    check_packed(folder, hidden)
