"""Encoders that need `trust_remote_code` elsewhere: published names and configurations.

The reference is the nearest native class with the same tensors, or plain torch written from the
published math.
"""

import json
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from parity import check, save_random
from published import COMMON, Native, Plain, publish
from safetensors.torch import save_file
from torch.nn.functional import embedding, gelu

from converters.checkpoint import open_checkpoint


def ntk(theta: float, factor: float, dim: int):
    """Sets the frequencies of Alibaba's NTK scaling: kexue.fm/archives/9706, equation 6."""
    rates = 1.0 / (theta * factor) ** (torch.arange(0, dim, 2).float() / dim)

    def patch(model):
        base = getattr(model, "gte", model)
        base.rotary_emb.inv_freq = rates / factor ** (2 / dim)

    return patch


@pytest.mark.parametrize(
    "ending, task",
    [("Model", None), ("ForSequenceClassification", "classify"), ("ForMaskedLM", "sparse")],
)
def test_new(ending, task, tmp_path):
    """Alibaba's NewModel: `new.` names, and rotary positions with fixed NTK scaling."""
    native = hf.GteConfig(**COMMON, type_vocab_size=0)
    model_class = getattr(hf, f"Gte{ending}")
    folder = save_random(
        model_class, native, tmp_path / "model", lambda name: name.replace("gte.", "new.")
    )
    publish(
        folder,
        drop=["rope_parameters"],
        model_type="new",
        architectures=[f"New{ending}"],
        auto_map={"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig"},
        position_embedding_type="rope",
        rope_theta=20.0,
        rope_scaling={"type": "ntk", "factor": 8.0},
        pack_qkv=True,
    )

    def back(tensors):
        return {name.replace("new.", "gte."): tensor for name, tensor in tensors.items()}

    check(folder, Native(model_class, native, back, ntk(20.0, 8.0, 10)), task)


@pytest.mark.parametrize("factor", [None, 2.0])
def test_nomic(factor, tmp_path):
    """nomic-embed-text: GPT-2's configuration names; texts may be longer than trained for."""
    rope = {"rope_type": "dynamic" if factor else "default", "rope_theta": 77.0, "factor": factor}
    lengths = COMMON | {"max_position_embeddings": 16}
    native = hf.NomicBertConfig(**lengths, rope_parameters=rope, layer_norm_eps=1e-5)
    folder = save_random(hf.NomicBertModel, native, tmp_path / "model")
    published = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "layer_norm_epsilon": 1e-5,
        "max_trained_positions": 16,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": 40,
        "n_head": 4,
        "n_inner": 50,
        "n_layer": 3,
        "n_positions": 64,
        "qkv_proj_bias": False,
        "rotary_emb_base": 77.0,
        "rotary_emb_fraction": 1.0,
        "rotary_scaling_factor": factor,
        "type_vocab_size": 2,
        "vocab_size": 97,
    }
    (folder / "config.json").write_text(json.dumps(published))
    assert open_checkpoint(folder).arch.max_length == (64 if factor else 16)
    check(folder, Native(hf.NomicBertModel, native))


class NomicMoe(Plain):
    """nomic-embed-text-v2-moe in plain torch: experts in odd layers, the two best of each token."""

    eps = 1e-5

    def attention(self, name, x):
        q, k, v = self.dense(f"{name}.Wqkv", x).chunk(3, -1)
        q, k, v = (y.view(1, len(x[0]), 4, 10).transpose(1, 2) for y in (q, k, v))
        rates = 90.0 ** (-torch.arange(0, 10, 2) / 10)
        turns = torch.polar(torch.tensor(1.0), torch.arange(len(x[0]))[:, None] * rates)

        def turn(y):
            a, b = y.chunk(2, -1)
            z = torch.complex(a, b) * turns
            return torch.cat([z.real, z.imag], -1)

        scores = turn(q) @ turn(k).transpose(-1, -2) / 10**0.5
        return self.dense(
            f"{name}.out_proj", (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        )

    def experts(self, name, x):
        best, which = self.dense(f"{name}.router.layer", x).softmax(-1).topk(2)
        w1, w2 = (self.tensors[f"{name}.experts.mlp.w{i}"].view(4, 50, 40) for i in (1, 2))
        each = torch.stack([gelu(x @ a.T) @ b for a, b in zip(w1, w2, strict=True)], -1)
        chosen = torch.take_along_dim(each, which[:, :, None, :], -1)
        return (chosen * best[:, :, None, :]).sum(-1) + self.tensors[f"{name}.experts.bias"]

    def __call__(self, input_ids):
        x = embedding(input_ids, self.tensors["embeddings.word_embeddings.weight"])
        x = self.norm("emb_ln", x + self.tensors["embeddings.token_type_embeddings.weight"][0])
        for i, layer in enumerate(f"encoder.layers.{i}" for i in range(4)):
            x = self.norm(f"{layer}.norm1", x + self.attention(f"{layer}.attn", x))
            mlp = f"{layer}.mlp"
            if i % 2:
                y = self.experts(mlp, x)
            else:
                y = self.dense(f"{mlp}.fc2", gelu(self.dense(f"{mlp}.fc1", x)))
            x = self.norm(f"{layer}.norm2", x + y)
        return SimpleNamespace(last_hidden_state=x)


def test_nomic_moe(tmp_path):
    """nomic-embed-text-v2-moe: biases everywhere, gelu, experts in every second layer."""
    shapes = {"embeddings.word_embeddings": (97, 40), "embeddings.token_type_embeddings": (1, 40)}
    norms = ["emb_ln"]
    for layer in (f"encoder.layers.{i}" for i in range(4)):
        shapes |= {f"{layer}.attn.Wqkv": (120, 40), f"{layer}.attn.out_proj": (40, 40)}
        norms += [f"{layer}.norm1", f"{layer}.norm2"]
    for layer in ("encoder.layers.0", "encoder.layers.2"):
        shapes |= {f"{layer}.mlp.fc1": (50, 40), f"{layer}.mlp.fc2": (40, 50)}
    torch.manual_seed(0)
    tensors = {f"{name}.weight": 0.1 * torch.randn(shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if "embeddings" not in name:
            tensors[f"{name}.bias"] = 0.1 * torch.randn(shape[0])
    for mlp in ("encoder.layers.1.mlp", "encoder.layers.3.mlp"):
        tensors[f"{mlp}.router.layer.weight"] = torch.randn(4, 40)
        tensors |= {f"{mlp}.experts.mlp.w{i}": 0.1 * torch.randn(200, 40) for i in (1, 2)}
        tensors[f"{mlp}.experts.bias"] = 0.1 * torch.randn(40)
    for name in norms:
        tensors |= {f"{name}.weight": 1 + 0.1 * torch.randn(40), f"{name}.bias": torch.randn(40)}
    published = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "gelu",
        "layer_norm_epsilon": 1e-5,
        "max_trained_positions": 64,
        "mlp_fc1_bias": True,
        "mlp_fc2_bias": True,
        "moe_every_n_layers": 2,
        "moe_top_k": 2,
        "n_embd": 40,
        "n_head": 4,
        "n_inner": 50,
        "n_layer": 4,
        "n_positions": 64,
        "num_experts": 4,
        "qkv_proj_bias": True,
        "rotary_emb_base": 90.0,
        "type_vocab_size": 1,
        "vocab_size": 97,
    }
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(published))
    check(folder, NomicMoe())
