"""A trained LoRA adapter beside peft's reading of its files, and served by `lora_path`."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, ModernBertConfig, ModernBertModel

import jaxpool
from converters.lora_save import kernels_named
from jaxpool.loading import describe
from jaxpool.nn.params import flatten
from jaxpool.train.trainer import Trainer
from tests.train.test_trainer import options, pairs

TARGETS = ("query", "out", "up", "down")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of peft
def test_adapter_is_trained_saved_and_read(bert, tmp_path):
    from peft import PeftModel

    settings = options(tmp_path, lora_rank=4, lora_targets=TARGETS, learning_rate=0.02, max_steps=8)
    trainer = Trainer(str(bert), pairs(8), settings)  # one batch, again and again
    trainer.train()
    assert all(".lora_" in name for name in flatten(trainer.state.params))
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"]
    trainer.save(tmp_path / "adapter")
    text = "the cat sees a big dog"
    served = jaxpool.load(str(bert), lora_path=str(tmp_path / "adapter"))
    plain = jaxpool.load(str(bert))
    model = AutoModel.from_pretrained(bert).eval()
    wrapped = PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    (tokens,) = served.tokenizer([text])
    with torch.no_grad():
        hidden = wrapped(input_ids=torch.tensor(tokens.ids[None].astype(np.int64)))
    wanted = hidden.last_hidden_state[0].numpy()
    batch = jaxpool.pad([tokens.ids])
    got = np.asarray(jaxpool.forward(served.params, batch, served.arch))[0]
    before = np.asarray(jaxpool.forward(plain.params, batch, plain.arch))[0]
    np.testing.assert_allclose(got, wanted, atol=5e-5)
    assert np.abs(got - before).max() > 1e-2
    # The last step was taken on what is saved: the trainer's own forward gives the same.
    adapted = batch._replace(adapters=np.ones_like(batch.tokens))
    own = np.asarray(jaxpool.forward(trainer.params, adapted, trainer.arch))[0]
    np.testing.assert_allclose(own, wanted, atol=5e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of peft
@pytest.mark.parametrize(
    "targets, wanted",
    [
        (("query", "value"), ("query", "value")),
        (("attention.self.query", "output.dense"), ("query", "out", "down")),
        (("dense",), ("out", "up", "down")),
        (("all-linear",), ("query", "key", "value", "out", "up", "down")),
    ],
)
def test_targets_as_peft_names_them(bert, targets, wanted):
    """The kernels that peft adapts in the same checkpoint, by the names of its modules."""
    from peft import LoraConfig, get_peft_model

    checkpoint = describe(str(bert)).checkpoint
    assert sorted(kernels_named(checkpoint, targets)) == sorted(wanted)
    if targets == ("all-linear",):
        return  # peft's would adapt the pooler too
    model = get_peft_model(AutoModel.from_pretrained(bert), LoraConfig(target_modules=[*targets]))
    adapted = {
        name.split("encoder.layer.0.")[1]
        for name, module in model.named_modules()
        if "encoder.layer.0." in name and hasattr(module, "lora_A")
    }
    names = {"query": "attention.self.query", "value": "attention.self.value"}
    names |= {"out": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
    assert adapted == {names[kind] for kind in wanted}


def test_a_fused_kernel_is_refused_before_the_run(checkpoint):
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)
    small |= {"num_attention_heads": 2, "vocab_size": 30522, "pad_token_id": 0}
    config = ModernBertConfig(**small, **special)
    fused = describe(str(checkpoint(ModernBertModel, config, "fused"))).checkpoint
    with pytest.raises(ValueError, match="LoRA: query lies fused with others in layers.*Wqkv"):
        kernels_named(fused, ("query",))
    assert kernels_named(fused, ("attn.Wo",)) == ("out",)


def test_unknown_target(bert, tmp_path):
    with pytest.raises(ValueError, match=r"no kernel is called \['q_proj'\]; there are"):
        Trainer(str(bert), pairs(8), options(tmp_path, lora_rank=2, lora_targets=("q_proj",)))
