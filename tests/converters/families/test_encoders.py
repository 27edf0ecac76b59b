"""Encoders with native classes in transformers, under non-default configurations."""

import pytest
import transformers as hf
from parity import SIZES, check, save_random

# Head size 10: rotary tables want it even, and nothing wants a power of two.
ROTARY = SIZES | dict(hidden_size=40)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
YARN = dict(rope_type="yarn", rope_theta=300.0, factor=4.0, original_max_position_embeddings=16)
LINEAR = dict(rope_type="linear", rope_theta=1000.0, factor=2.0)
DEFAULT = dict(rope_type="default", rope_theta=90.0)

CONFIGS = {
    "Bert": hf.BertConfig(**SIZES, type_vocab_size=2, layer_norm_eps=1e-6),
    "Roberta": hf.RobertaConfig(**SIZES, type_vocab_size=1, pad_token_id=1),
    "XLMRoberta": hf.XLMRobertaConfig(**SIZES, type_vocab_size=1, hidden_act="gelu_new"),
    "Camembert": hf.CamembertConfig(**SIZES, type_vocab_size=1),
    "Electra": hf.ElectraConfig(**SIZES, type_vocab_size=2, embedding_size=20),
    "RemBert": hf.RemBertConfig(
        **SIZES, input_embedding_size=20, output_embedding_size=28, hidden_act="gelu_new"
    ),
    "DistilBert": hf.DistilBertConfig(
        vocab_size=97,
        dim=36,
        n_layers=3,
        n_heads=4,
        hidden_dim=50,
        max_position_embeddings=64,
        num_labels=3,
    ),
    "Albert": hf.AlbertConfig(**SIZES, embedding_size=20, hidden_act="gelu_new"),
    "Ernie": hf.ErnieConfig(**SIZES, use_task_id=True, task_type_vocab_size=3),
    "MPNet": hf.MPNetConfig(**SIZES, layer_norm_eps=1e-5),
    "ModernBert": hf.ModernBertConfig(
        **ROTARY,
        local_attention=6,
        norm_bias=True,
        attention_bias=True,
        mlp_bias=True,
        classifier_bias=True,
        classifier_pooling="mean",
        pad_token_id=0,
        rope_parameters=dict(full_attention=YARN, sliding_attention=DEFAULT),
    ),
    "EuroBert": hf.EuroBertConfig(
        **ROTARY,
        num_key_value_heads=2,
        head_dim=14,
        attention_bias=True,
        rope_parameters=LLAMA3,
        classifier_pooling="late",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "Gte": hf.GteConfig(**ROTARY, type_vocab_size=2, rope_parameters=LINEAR),
    "NomicBert": hf.NomicBertConfig(**ROTARY, rope_parameters=LLAMA3),
    "JinaEmbeddingsV3": hf.JinaEmbeddingsV3Config(
        **ROTARY, type_vocab_size=1, rope_parameters=DEFAULT
    ),
}
HEADS = {
    "Model": None,
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "token_classify",
    "ForMaskedLM": "sparse",
}


ALIKE = ("XLMRoberta", "Camembert")  # Roberta's heads


def _cases():
    """Every family and head; those whose code another case runs are slow tests."""
    for family in CONFIGS:
        for ending in HEADS:
            again = family in ALIKE and HEADS[ending] or "Token" in ending and family != "Bert"
            yield pytest.param(family, ending, marks=[pytest.mark.slow] if again else [])


@pytest.mark.parametrize("family, ending", [*_cases()])
def test_parity(family, ending, tmp_path):
    model_class = getattr(hf, family + ending)
    folder = save_random(model_class, CONFIGS[family], tmp_path / "model")
    check(folder, model_class, HEADS[ending])
