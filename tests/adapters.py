"""Random LoRA adapters of checkpoints, written by peft."""

import torch
from transformers import AutoModel

from jaxpool import LoRARequest


def adapter(base, folder, modules, rank: int, seed: int, **more):
    """A random adapter of a checkpoint, written by peft."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = AutoModel.from_pretrained(base)
    wrapped = get_peft_model(model, LoraConfig(r=rank, target_modules=modules, **more))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    wrapped.save_pretrained(folder)
    return LoRARequest(folder.name, 1, str(folder))
