"""DeBERTa and DeBERTa-v2 against Hugging Face torch, switch by switch."""

import numpy as np
import pytest
import torch
import transformers as hf
from parity import SIZES, check, save_random
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from jaxpool.nn.arch import Disentangled
from jaxpool.nn.disentangled import buckets

COMMON = dict(
    **SIZES,
    relative_attention=True,
    pos_att_type="c2p|p2c",
)
# As v3's files have it; texts reach far beyond its exact buckets.
V3 = COMMON | dict(
    position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False
)
CASES = {
    "v1": ("Deberta", COMMON | dict(type_vocab_size=0, position_biased_input=False)),
    "v1-c2p-short": (
        "Deberta",
        COMMON | dict(type_vocab_size=2, pos_att_type="c2p", max_relative_positions=7),
    ),
    "v1-absolute": ("Deberta", COMMON | dict(relative_attention=False, pos_att_type=None)),
    "v3": ("DebertaV2", V3 | dict(type_vocab_size=0, pooler_hidden_act="tanh")),
    "v2-conv": (
        "DebertaV2",
        V3 | dict(conv_kernel_size=3, conv_act="gelu", conv_groups=2, type_vocab_size=2),
    ),
    "v2-own-products": ("DebertaV2", COMMON | dict(pos_att_type="p2c", conv_kernel_size=5)),
}


@pytest.mark.parametrize("case", CASES)
def test_hidden_states(case, tmp_path):
    name, options = CASES[case]
    model_class = getattr(hf, f"{name}Model")
    config = getattr(hf, f"{name}Config")(**options)
    check(save_random(model_class, config, tmp_path / "model"), model_class)


@pytest.mark.parametrize(
    ("case", "ending", "task"),
    [
        ("v1", "ForSequenceClassification", "classify"),
        ("v3", "ForSequenceClassification", "classify"),
        ("v2-conv", "ForTokenClassification", "token_classify"),
        ("v3", "ForMaskedLM", "sparse"),
    ],
)
def test_heads(case, ending, task, tmp_path):
    name, options = CASES[case]
    model_class = getattr(hf, name + ending)
    config = getattr(hf, f"{name}Config")(**options)
    check(save_random(model_class, config, tmp_path / "model"), model_class, task)


@pytest.mark.parametrize(("span", "longest"), [(256, 512), (8, 64), (32, 1000)])
def test_buckets(span, longest):
    wanted = make_log_bucket_position(torch.arange(2000), span, longest)
    facts = Disentangled(span, max_distance=longest)
    np.testing.assert_array_equal(buckets(facts, 1999), wanted.numpy())
