"""The BERT family against Hugging Face torch, with non-default configurations."""

import pytest
import transformers as hf
from parity import check, save_random

COMMON = dict(
    vocab_size=97,
    hidden_size=36,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=50,
    max_position_embeddings=64,
    layer_norm_eps=1e-6,
    num_labels=3,
)
CONFIGS = {
    "Bert": hf.BertConfig(**COMMON, type_vocab_size=2),
    "Roberta": hf.RobertaConfig(**COMMON, type_vocab_size=1, pad_token_id=1),
    "XLMRoberta": hf.XLMRobertaConfig(**COMMON, type_vocab_size=1, hidden_act="gelu_new"),
    "Camembert": hf.CamembertConfig(**COMMON, type_vocab_size=1),
    "Electra": hf.ElectraConfig(**COMMON, type_vocab_size=2, embedding_size=20),
    "DistilBert": hf.DistilBertConfig(
        vocab_size=97,
        dim=36,
        n_layers=3,
        n_heads=4,
        hidden_dim=50,
        max_position_embeddings=64,
        num_labels=3,
    ),
}
HEADS = {
    "Model": None,
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "token_classify",
    "ForMaskedLM": "sparse",
}


@pytest.mark.parametrize("ending", HEADS)
@pytest.mark.parametrize("family", CONFIGS)
def test_parity(family, ending, tmp_path):
    model_class = getattr(hf, family + ending)
    folder = save_random(model_class, CONFIGS[family], tmp_path / "model")
    check(folder, model_class, HEADS[ending])


def test_published_dialect(tmp_path):
    """Prefixed names with gamma and beta, as google-bert's first files have them."""

    def rename(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return "bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")

    plain = save_random(hf.BertModel, CONFIGS["Bert"], tmp_path / "plain")
    old = save_random(hf.BertModel, CONFIGS["Bert"], tmp_path / "old", rename)
    import jax
    import numpy as np

    from converters.checkpoint import open_checkpoint

    trees = [open_checkpoint(f).read(np.float32, lambda p, a: a) for f in (plain, old)]
    jax.tree.map(np.testing.assert_array_equal, *trees)
