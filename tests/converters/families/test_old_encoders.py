"""Encoders that are BERT or RoBERTa but for a norm, a position or a name."""

import pytest
import transformers as hf
from parity import SIZES, check, check_packed, reference, save_random, texts
from published import remake
from transformers.models.roformer.modeling_roformer import RoFormerSinusoidalPositionalEmbedding

from converters.checkpoint import open_checkpoint

ROTARY = SIZES | dict(hidden_size=40)
XLM = dict(
    vocab_size=97,
    emb_dim=36,
    n_layers=3,
    n_heads=4,
    max_position_embeddings=64,
    num_labels=3,
    pad_index=2,
    pad_token_id=2,
)
MASK = int(texts(97)[1][3])  # one text has it: its other embeddings grow
CONFIGS = {
    "MegatronBert": hf.MegatronBertConfig(**SIZES, layer_norm_eps=1e-6),
    "XLMRobertaXL": hf.XLMRobertaXLConfig(**SIZES),
    "RobertaPreLayerNorm": hf.RobertaPreLayerNormConfig(**SIZES, type_vocab_size=1),
    "Data2VecText": hf.Data2VecTextConfig(**SIZES, type_vocab_size=1),
    "Luke": hf.LukeConfig(**SIZES, entity_vocab_size=11, entity_emb_size=12),
    "BigBird": hf.BigBirdConfig(
        **SIZES, attention_type="original_full", use_bias=False, rescale_embeddings=True
    ),
    "RoFormer": hf.RoFormerConfig(**ROTARY, embedding_size=20),
    "Xmod": hf.XmodConfig(**SIZES, languages=["en_XX", "de_DE"], default_language="de_DE"),
    "Esm": hf.EsmConfig(
        **ROTARY, position_embedding_type="rotary", pad_token_id=1, mask_token_id=MASK
    ),
    "Flaubert": hf.FlaubertConfig(**XLM, pre_norm=True, gelu_activation=True),
    "XLM": hf.XLMConfig(**XLM, gelu_activation=False),
}
HEADS = {
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "token_classify",
    "ForMaskedLM": "sparse",
}
# LUKE's language model predicts entities too; the base model alone is read.
NOT_READ = ("LukeForMaskedLM",)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """FlauBERT's pre-norm layers index a cache that cannot be indexed: none of it is in use."""
    monkeypatch.setattr(hf.EncoderDecoderCache, "__getitem__", lambda self, i: None, raising=False)


def published(name):
    """What transformers writes of ESM under a name of its own, as the files on the Hub have it."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias").replace("layer.*.", "layer.0.")


def save(model_class, family, folder):
    save_random(model_class, CONFIGS[family], folder, published)
    if family == "RoFormer":  # the table of sines and cosines, which no checkpoint trains
        table = RoFormerSinusoidalPositionalEmbedding(64, 10).create_weight()
        remake(folder, lambda ts: {n: table if "embed_pos" in n else t for n, t in ts.items()})
    return folder


@pytest.mark.parametrize("family", CONFIGS)
def test_hidden_states(family, tmp_path):
    model_class = getattr(hf, f"{family}Model")
    folder = save(model_class, family, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "last_hidden_state"))


def case(family, ending):
    """One head of each family by default."""
    first = ending == "ForSequenceClassification"
    return pytest.param(family, ending, marks=[] if first else [pytest.mark.slow])


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_all_forms(family, tmp_path):
    """Padded, unrolled, in bfloat16, and written again."""
    model_class = getattr(hf, f"{family}Model")
    check(save(model_class, family, tmp_path / "model"), model_class)


@pytest.mark.parametrize(
    ("family", "ending"),
    [case(f, e) for f in CONFIGS for e in HEADS if hasattr(hf, f + e) and f + e not in NOT_READ],
)
def test_heads(family, ending, tmp_path):
    model_class = getattr(hf, family + ending)
    folder = save(model_class, family, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    wanted = reference(model, texts(97), False, "logits")
    check_packed(folder, wanted, HEADS[ending])


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("Xmod", {"default_language": None}, "default_language must be one of"),
        ("Xmod", {"ln_before_adapter": False}, "ln_before_adapter must be True"),
        ("RoFormer", {"rotary_value": True}, "rotary_value must be false"),
        ("XLM", {"causal": True}, "causal must be False"),
    ],
)
def test_what_is_not_implemented_is_refused(family, fields, message, tmp_path):
    folder = save(getattr(hf, f"{family}Model"), family, tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        open_checkpoint(folder, fields)


def test_big_bird_ends_where_its_attention_is_sparse(tmp_path):
    folder = save(hf.BigBirdModel, "BigBird", tmp_path / "model")
    fields = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 3}
    assert open_checkpoint(folder, fields).arch.max_length == 44
