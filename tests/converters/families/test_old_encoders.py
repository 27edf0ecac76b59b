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
    "IBert": hf.IBertConfig(**SIZES),
    "Luke": hf.LukeConfig(**SIZES, entity_vocab_size=11, entity_emb_size=12),
    "BigBird": hf.BigBirdConfig(
        **SIZES, attention_type="original_full", use_bias=False, rescale_embeddings=True
    ),
    "RoFormer": hf.RoFormerConfig(**ROTARY, embedding_size=20),
    "Xmod": hf.XmodConfig(**SIZES, languages=["en_XX", "de_DE"], default_language="de_DE"),
    "Esm": hf.EsmConfig(
        **ROTARY, position_embedding_type="rotary", pad_token_id=1, mask_token_id=MASK
    ),
    "MobileBert": hf.MobileBertConfig(
        **SIZES, embedding_size=12, intra_bottleneck_size=20, num_feedforward_networks=3
    ),
    "SqueezeBert": hf.SqueezeBertConfig(
        **SIZES | dict(intermediate_size=52), embedding_size=36, layer_norm_eps=1e-12
    ),
    "ConvBert": hf.ConvBertConfig(
        **SIZES | dict(hidden_size=40), embedding_size=20, conv_kernel_size=5, num_groups=2
    ),
    "Nystromformer": hf.NystromformerConfig(**SIZES, conv_kernel_size=5),
    "FNet": hf.FNetConfig(
        vocab_size=97,
        hidden_size=36,
        num_hidden_layers=3,
        intermediate_size=50,
        max_position_embeddings=64,
        num_labels=3,
    ),
    "Longformer": hf.LongformerConfig(**SIZES, attention_window=[4, 8, 8]),
    "XLNet": hf.XLNetConfig(
        vocab_size=97, d_model=36, n_layer=3, n_head=4, d_inner=50, num_labels=3
    ),
    "Flaubert": hf.FlaubertConfig(**XLM, pre_norm=True, gelu_activation=True),
    "XLM": hf.XLMConfig(**XLM, gelu_activation=False),
}
HEADS = {
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "token_classify",
    "ForMaskedLM": "sparse",
    "WithLMHeadModel": "sparse",
}


# What one test by default covers: the logits of a head, or hidden states; what none does.
LATE = ("IBert", "Nystromformer")
BY_HEAD = ("Longformer", "XLNet", *LATE)
BY_HIDDEN = ("MobileBert", "SqueezeBert", "ConvBert", "FNet", *LATE)


def slow(family, late, *rest):
    """A case, which only `make test-slow` runs where it is `late`."""
    return pytest.param(family, *rest, marks=[pytest.mark.slow] if late else [])


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


@pytest.mark.parametrize("family", [slow(x, x in BY_HEAD) for x in CONFIGS])
def test_hidden_states(family, tmp_path):
    model_class = getattr(hf, f"{family}Model")
    folder = save(model_class, family, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "last_hidden_state"))


def case(family, ending):
    """One head of each family by default."""
    late = ending != "ForSequenceClassification" or family in BY_HIDDEN
    return slow(family, late, ending)


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_all_forms(family, tmp_path):
    """Padded, unrolled, in bfloat16, and written again."""
    model_class = getattr(hf, f"{family}Model")
    check(save(model_class, family, tmp_path / "model"), model_class)


@pytest.mark.parametrize(
    ("family", "ending"),
    [case(f, e) for f in CONFIGS for e in HEADS if hasattr(hf, f + e)],
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["DPRContextEncoder", "DPRQuestionEncoder", "BertGenerationEncoder"]
)
def test_encoders_that_are_parts_of_other_models(name, tmp_path):
    config = hf.BertGenerationConfig(**SIZES) if "Gen" in name else hf.DPRConfig(**SIZES)
    folder = save_random(getattr(hf, name), config, tmp_path / "model")
    model = getattr(hf, name).from_pretrained(folder).eval()
    part = {"DPRC": "ctx_encoder.bert_model", "DPRQ": "question_encoder.bert_model"}
    model = model.get_submodule(part.get(name[:4], ""))
    check_packed(folder, reference(model, texts(97), False, "last_hidden_state"))


def test_xlnet_reads_the_types_of_tokens(tmp_path):
    """They change scores alone: without a table of embeddings."""
    folder = save(hf.XLNetModel, "XLNet", tmp_path / "model")
    model = hf.XLNetModel.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), True, "last_hidden_state"), types=True)


def test_big_bird_ends_where_its_attention_is_sparse(tmp_path):
    folder = save(hf.BigBirdModel, "BigBird", tmp_path / "model")
    fields = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 3}
    assert open_checkpoint(folder, fields).arch.max_length == 44
