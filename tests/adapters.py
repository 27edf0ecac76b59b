"""Random LoRA adapters of checkpoints, written by peft, and what torch computes with them."""

import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from jaxpool import LoRARequest

CLASSIFIER = AutoModelForSequenceClassification


def adapter(base, folder, modules, rank: int, seed: int, kind=AutoModel, **more):
    """A random adapter of a checkpoint, which `kind` loads, written by peft."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = kind.from_pretrained(base)
    wrapped = get_peft_model(model, LoraConfig(r=rank, target_modules=modules, **more))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or ".modules_to_save." in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    wrapped.save_pretrained(folder)
    return LoRARequest(folder.name, 1, str(folder))


def probabilities(base, asked: LoRARequest | None, texts) -> np.ndarray:
    """The classes of texts by torch, with peft's wrapper around the model."""
    from peft import PeftModel

    model = CLASSIFIER.from_pretrained(base)
    model = PeftModel.from_pretrained(model, asked.lora_path) if asked else model
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        each = [model.eval()(**tokenizer(t, return_tensors="pt")).logits[0] for t in texts]
    return torch.softmax(torch.stack(each), dim=-1).numpy()
