"""T5Gemma 2 against Hugging Face torch: the encoder's windows, classes read off its decoder."""

import pytest
import transformers as hf
from parity import check_packed, reference, save_random, texts

TEXT = dict(
    vocab_size=97,
    hidden_size=36,
    intermediate_size=50,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,
    max_position_embeddings=64,
    query_pre_attn_scalar=7,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
)
VISION = dict(
    model_type="siglip_vision_model",
    **dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2),
    **dict(image_size=8, patch_size=4),
)


def config(window, **facts):
    text = TEXT | {"sliding_window": window}
    encoder = dict(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
    return hf.T5Gemma2Config(encoder=encoder, decoder=text, num_labels=3, **facts)


@pytest.mark.slow
@pytest.mark.parametrize("window", [6, 7])
def test_hidden_states_of_the_encoder(window, tmp_path):
    folder = save_random(hf.T5Gemma2Model, config(window), tmp_path / "model", scale=0.0)
    model = hf.T5Gemma2Model.from_pretrained(folder).encoder.eval()
    check_packed(folder, reference(model, texts(97), False, "last_hidden_state"))


HEADS = ["Sequence", pytest.param("Token", marks=pytest.mark.slow)]


@pytest.mark.parametrize("ending", HEADS)
def test_heads(ending, tmp_path):
    model_class = getattr(hf, f"T5Gemma2For{ending}Classification")
    folder = save_random(model_class, config(6), tmp_path / "model", scale=0.0)
    wanted = reference(model_class.from_pretrained(folder).eval(), texts(97), False, "logits")
    check_packed(folder, wanted, "classify" if ending == "Sequence" else "token_classify")
