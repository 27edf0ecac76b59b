"""Exports keep the tensors that jaxpool computes nothing with: Hugging Face's own heads work on."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from parity import save_random, texts
from safetensors.numpy import load_file, save_file

from converters.checkpoint import open_checkpoint
from converters.files import orbax

DECODER = dict(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=48,
)
DEBERTA = dict(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    relative_attention=True,
    pos_att_type=["c2p", "p2c"],
    legacy=False,
)
MODELS = {
    "untied": (hf.Qwen3ForCausalLM, hf.Qwen3Config(**DECODER, tie_word_embeddings=False)),
    "tied": (hf.Qwen3ForCausalLM, hf.Qwen3Config(**DECODER, tie_word_embeddings=True)),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=2)),
    "deberta": (hf.DebertaV2ForMaskedLM, hf.DebertaV2Config(**DEBERTA)),
    "t5": (
        hf.T5ForConditionalGeneration,
        hf.T5Config(vocab_size=97, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2),
    ),
}


def logits(model_class, folder):
    model = model_class.from_pretrained(folder).eval()
    ids = torch.tensor(texts(97)[0][None].astype(np.int64))
    extra = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **extra).logits.numpy()


def export(folder, target, change=lambda array: array):
    checkpoint = open_checkpoint(folder, convert="embed")
    tree = checkpoint.read(np.float32, lambda path, array: change(array))
    target.mkdir()
    checkpoint.write(tree, target)
    return target


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_the_exported_folder(name, tmp_path):
    model_class, config = MODELS[name]
    folder = save_random(model_class, config, tmp_path / "model")
    exported = export(folder, tmp_path / "exported")
    wanted = logits(model_class, folder)
    np.testing.assert_array_equal(logits(model_class, exported), wanted)
    assert np.abs(wanted).max() > 0.1


def test_a_written_out_tie_does_not_outlive_training(tmp_path):
    """A file with `lm_head` beside the embedding it is tied to: the trained embedding decides."""
    model_class, config = MODELS["tied"]
    folder = save_random(model_class, config, tmp_path / "model")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, file, metadata={"format": "pt"})
    exported = export(folder, tmp_path / "exported", lambda array: 2 * array)
    assert "lm_head.weight" not in load_file(exported / "model.safetensors")
    model = model_class.from_pretrained(exported)
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_orbax_folders_keep_them(tmp_path):
    model_class, config = MODELS["untied"]
    folder = save_random(model_class, config, tmp_path / "model")
    middle = tmp_path / "orbax"
    orbax.save(open_checkpoint(folder), middle)
    checkpoint = open_checkpoint(middle)
    target = tmp_path / "exported"
    target.mkdir()
    from jaxpool.nn.params import flatten, unflatten

    tree = unflatten({k: jnp.asarray(v) for k, v in flatten(orbax.read(checkpoint)).items()})
    checkpoint.write(tree, target)
    np.testing.assert_array_equal(logits(model_class, target), logits(model_class, folder))
