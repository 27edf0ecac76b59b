"""Decoders whose layers mix tokens by other means than attention, against transformers."""

from types import MethodType

import pytest
import transformers as hf
from parity import check, check_packed, reference, save_random, texts
from published import Native
from test_decoders import COMMON, hidden_states
from test_remote_decoders import remodel
from torch.nn.functional import conv1d

from converters.checkpoint import open_checkpoint

SIZES = {name: value for name, value in COMMON.items() if name != "head_dim"}
LFM2 = dict(
    **SIZES | dict(num_hidden_layers=5, rms_norm_eps=None),
    norm_eps=1e-5,
    conv_bias=True,
    block_multiple_of=8,
    layer_types=["conv", "conv", "full_attention", "conv", "full_attention"],
)

QWEN3_5 = dict(
    **COMMON | dict(num_hidden_layers=6),
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_key_head_dim=8,
    linear_value_head_dim=5,
    rope_parameters={"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.6},
    layer_types=["linear_attention", "linear_attention", "full_attention"] * 2,
)


JAMBA = dict(
    **SIZES | dict(num_hidden_layers=4, intermediate_size=52),
    num_experts=3,
    num_experts_per_tok=2,
    attn_layer_period=4,
    attn_layer_offset=2,
    mamba_d_state=6,
    mamba_dt_rank=5,
    mamba_proj_bias=True,
)


def centered(self, hidden_states, **_):
    """LFM2's short convolution as its encoders have it: the token is the middle of the window."""
    before, after, value = self.in_proj(hidden_states).transpose(1, 2).chunk(3, dim=1)
    side, kernel = self.conv_kernel_size // 2, self.conv.weight
    mixed = conv1d(before * value, kernel, self.conv.bias, padding=side, groups=len(kernel))
    return self.out_proj((after * mixed).transpose(1, 2))


def encoder(model):
    """Make an Lfm2Model the encoder that its authors make of it."""
    for layer in model.layers:
        if not layer.is_attention_layer:
            layer.conv.forward = MethodType(centered, layer.conv)


def test_lfm2(tmp_path):
    check(save_random(hf.Lfm2Model, hf.Lfm2Config(**LFM2), tmp_path / "model"), hf.Lfm2Model)


def qwen3_5(model_class, config, folder):
    """Norms lie around 0, as they are stored less one, but for the delta nets' own."""

    def around_one(tensors):
        return {x: t + 1 if "linear_attn.norm" in x else t for x, t in tensors.items()}

    return remodel(save_random(model_class, config, folder, scale=0.0), around_one)


def test_qwen3_5(tmp_path):
    config = hf.Qwen3_5TextConfig(**QWEN3_5)
    check(qwen3_5(hf.Qwen3_5TextModel, config, tmp_path / "model"), hf.Qwen3_5TextModel)


def test_qwen3_5_with_a_tower_classifies_texts(tmp_path):
    """As published: the text model's names and fields are those of a part, beside a tower's."""
    sight = dict(depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=36)
    config = hf.Qwen3_5Config(text_config=QWEN3_5, vision_config=sight, num_labels=3)
    model_class = hf.Qwen3_5ForSequenceClassification
    folder = qwen3_5(model_class, config, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), "classify")


def test_jamba(tmp_path):
    """Mamba and attention, experts and MLPs, each every other layer."""
    config = hf.JambaConfig(**JAMBA)
    check(save_random(hf.JambaModel, config, tmp_path / "model"), hf.JambaModel)


@pytest.mark.slow
def test_jamba_without_experts_classifies(tmp_path):
    """A classifier whose layers have MLPs alone."""
    config = hf.JambaConfig(**JAMBA | dict(num_experts=1))
    model_class = hf.JambaForSequenceClassification
    folder = save_random(model_class, config, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), "classify")


@pytest.mark.parametrize("name", ["Lfm2BidirectionalModel", "Lfm2BidirectionalForMaskedLM"])
def test_lfm2_bidirectional(name, tmp_path):
    """Centred windows, no causal mask, the first token; the vocabulary of the masked LM is tied."""
    config = hf.Lfm2Config(**LFM2, is_causal=False)
    folder = save_random(hf.Lfm2Model, config, tmp_path / "model")
    model = Native(hf.Lfm2Model, config, patch=encoder).from_pretrained(folder).eval()
    wanted = reference(model, texts(97), False, "last_hidden_state")
    masked = "MaskedLM" in name
    prefix = "lfm2." if masked else ""
    remodel(
        folder,
        lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()},
        ["is_causal"],
        architectures=[name],
    )
    if not masked:
        check_packed(folder, wanted)
        assert open_checkpoint(folder).pool == "cls"
        return
    words = model.embed_tokens.weight.detach().numpy()
    check_packed(folder, [hidden @ words.T for hidden in wanted], "sparse")


def test_lfm2_compares_tokens(tmp_path):
    """LFM2-ColBERT under vLLM's name for it: causal, a linear layer on every token."""
    folder = save_random(hf.Lfm2Model, hf.Lfm2Config(**LFM2), tmp_path / "model")
    wanted = hidden_states(hf.Lfm2Model, folder)
    kernel = next(iter(wanted))[:3, :36].copy()
    remodel(folder, lambda t: t | {"linear.weight": kernel}, architectures=["ColBERTLfm2Model"])
    check_packed(folder, [hidden @ kernel.T for hidden in wanted], "token_embed")
