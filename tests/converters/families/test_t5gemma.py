"""T5Gemma's encoder, alone and of an encoder-decoder's files, against transformers."""

import pytest
import transformers as hf
from parity import check_packed, reference, save_random, texts
from test_decoders import COMMON, ENDINGS

from converters.checkpoint import open_checkpoint

SIZES = {name: value for name, value in COMMON.items() if name != "num_labels"} | dict(
    sliding_window=4,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    query_pre_attn_scalar=5,
    attn_logit_softcapping=1.5,
)


def config(both: bool):
    """An encoder, and a decoder that is not read."""
    parts = dict(encoder=dict(SIZES), decoder=dict(SIZES))
    return hf.T5GemmaConfig(**parts, vocab_size=97, is_encoder_decoder=both, num_labels=3)


@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True])
def test_the_encoder(both, tmp_path):
    model_class = hf.T5GemmaModel if both else hf.T5GemmaEncoderModel
    folder = save_random(model_class, config(both), tmp_path / "model", scale=0.0)
    model = model_class.from_pretrained(folder).eval()
    wanted = reference(model.encoder, texts(97), False, "last_hidden_state")
    check_packed(folder, wanted)
    assert open_checkpoint(folder).pool == "mean"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_heads(ending, tmp_path):
    model_class = getattr(hf, f"T5Gemma{ending}")
    folder = save_random(model_class, config(False), tmp_path / "model", scale=0.0)
    model = model_class.from_pretrained(folder).eval()
    check_packed(folder, reference(model, texts(97), False, "logits"), ENDINGS[ending])
    with pytest.raises(ValueError, match="is_encoder_decoder must be false"):
        open_checkpoint(folder, {"is_encoder_decoder": True})
