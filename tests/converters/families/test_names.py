"""Names on disk as published files have them, which differ from what transformers saves."""

import jax
import numpy as np
import pytest
import transformers as hf
from parity import save_random
from safetensors.numpy import load_file, save_file

from converters.checkpoint import open_checkpoint
from tests.converters.families import test_deberta, test_decoders, test_encoders

CONFIGS = test_encoders.CONFIGS | test_decoders.CONFIGS
CONFIGS["DebertaV2"] = hf.DebertaV2Config(**test_deberta.V3, type_vocab_size=0)
# By the class of the base model: the prefix of its names, and what else lies in the file.
PUBLISHED = {
    "Albert": ("albert.", "albert.embeddings.position_ids predictions.bias predictions.dense.bias"),
    "Bert": (
        "bert.",
        "cls.predictions.bias cls.seq_relationship.bias bert.embeddings.position_ids",
    ),
    "DebertaV2": (
        "deberta.",
        "lm_predictions.lm_head.bias mask_predictions.dense.bias "
        "deberta.embeddings.position_embeddings.weight",
    ),
    "DistilBert": ("distilbert.", "vocab_transform.weight vocab_layer_norm.bias"),
    "Electra": ("electra.", "discriminator_predictions.dense.bias electra.embeddings.position_ids"),
    "GPT2": ("", "h.0.attn.bias h.2.attn.masked_bias"),
    "Gte": ("gte.", "classifier.weight classifier.bias"),
    "Llama": ("model.", "lm_head.weight model.layers.0.self_attn.rotary_emb.inv_freq"),
    "MPNet": ("mpnet.", "lm_head.bias lm_head.dense.bias mpnet.embeddings.position_ids"),
    "ModernBert": ("model.", "head.dense.weight head.norm.weight decoder.bias"),
    "Qwen3": ("", "lm_head.weight"),
    "XLMRoberta": ("roberta.", "lm_head.bias lm_head.decoder.bias roberta.embeddings.position_ids"),
}


def tree(folder):
    """The parameters of a folder."""
    return open_checkpoint(folder).read(np.float32, lambda path, array: array)


@pytest.mark.parametrize("family", PUBLISHED)
def test_prefixes_and_tensors_that_nobody_asked_for(family, tmp_path):
    prefix, others = PUBLISHED[family]
    config = CONFIGS[family]
    folder = save_random(getattr(hf, f"{family}Model"), config, tmp_path / "model")
    wanted = tree(folder)
    file = folder / "model.safetensors"
    tensors = {prefix + name: tensor for name, tensor in load_file(file).items()}
    save_file(tensors | dict.fromkeys(others.split(), np.zeros(3, np.float32)), file)
    jax.tree.map(np.testing.assert_array_equal, tree(folder), wanted)


def test_gamma_and_beta(tmp_path):
    """The norms of the first files."""
    folder = save_random(hf.BertModel, CONFIGS["Bert"], tmp_path / "model")
    wanted = tree(folder)
    file = folder / "model.safetensors"

    def old(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    save_file({old(name): tensor for name, tensor in load_file(file).items()}, file)
    jax.tree.map(np.testing.assert_array_equal, tree(folder), wanted)
