"""Checkpoints as remote code publishes them, and the references that they are held against."""

import json

from safetensors.torch import load_file, save_file
from torch.nn.functional import layer_norm, linear


def publish(folder, drop=(), **facts):
    """Rewrite config.json as a remote-code repository has it."""
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in config.items() if name not in drop}
    (folder / "config.json").write_text(json.dumps(config | facts))


def remake(folder, change):
    """Rewrite the tensors of a folder: `change` of the dict of them."""
    tensors = change(load_file(folder / "model.safetensors"))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class Native:
    """Loads a published folder into a native class: its own config, and tensors renamed back."""

    def __init__(self, model_class, config, back=lambda tensors: tensors, patch=lambda model: None):
        self.model_class, self.config, self.back, self.patch = model_class, config, back, patch

    def from_pretrained(self, folder):
        tensors = self.back(load_file(folder / "model.safetensors"))
        model = self.model_class.from_pretrained(None, config=self.config, state_dict=tensors)
        self.patch(model)
        return model


class Plain:
    """A model in plain torch, written from the published math; its class has the forward."""

    eps = 1e-12

    def from_pretrained(self, folder):
        self.tensors = load_file(folder / "model.safetensors")
        return self

    def eval(self):
        return self

    def dense(self, name, x):
        return linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name, x):
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return layer_norm(x, weight.shape, weight, bias, self.eps)
