"""KaLM-Reranker-V1: documents read by an encoder, prompts by a decoder beside their vectors."""

import numpy as np
import pytest
import torch
import transformers as hf
from parity import save_random
from scoring.conftest import DOCUMENTS, QUERIES
from transformers.modeling_outputs import BaseModelOutput

import jaxpool
from jaxpool import PoolingParams
from jaxpool.errors import RequestError
from jaxpool.scoring.apart import Apart
from jaxpool.scoring.pairs import prepare_scores

PROMPT = (
    "<bos><start_of_turn>user\nJudge whether the Document meets the requirements based on the "
    'Query and the Instruct provided. Note that the answer can only be "yes" or "no".\n\n'
    "<Instruct>: {}\n<Query>: {}<end_of_turn>\n<start_of_turn>model\n\n\n\n"
)
TEXT = dict(
    **dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2),
    **dict(num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=17, sliding_window=14),
    layer_types=["sliding_attention", "full_attention"],
    max_position_embeddings=2048,
)
VISION = dict(
    model_type="siglip_vision_model",
    **dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2),
    **dict(image_size=8, patch_size=4),
)


@pytest.fixture(scope="module")
def folder(chat_tokenizer, tmp_path_factory):
    text = TEXT | {"vocab_size": len(chat_tokenizer)}
    encoder = dict(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
    config = hf.T5Gemma2Config(encoder=encoder, decoder=text)
    folder = tmp_path_factory.mktemp("apart") / "KaLM-Reranker-V1-Nano"
    save_random(hf.T5Gemma2ForConditionalGeneration, config, folder, scale=0.0)
    chat_tokenizer.save_pretrained(folder)
    return folder


def margin(model, tokenizer, pair, instruction, chunk):
    """yes less no, as the model's card and kalm_reranker.py have it."""
    query, document = pair
    text = tokenizer(f"<Document>: {document}", add_special_tokens=False, return_tensors="pt")
    hidden = model.get_encoder()(**text).last_hidden_state
    means = [part.mean(1) for part in hidden.split(chunk, dim=1)]
    ids = tokenizer(PROMPT.format(instruction, query), add_special_tokens=False).input_ids
    out = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=torch.stack(means, 1)),
        attention_mask=torch.ones(1, len(means), dtype=torch.int64),
        decoder_input_ids=torch.tensor([ids]),
    )
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    return float(out.logits[0, -1, yes] - out.logits[0, -1, no])


@pytest.mark.parametrize("chunk", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_scores(folder, chat_tokenizer, chunk):
    model = hf.T5Gemma2ForConditionalGeneration.from_pretrained(folder).eval()
    llm = jaxpool.LLM(str(folder), hf_overrides={} if chunk else {"chunk_size": None})
    told = {"extra_kwargs": {"instruction": "Find the cause."}}
    raw = PoolingParams(use_activation=False, **told)
    got = [o.outputs.score for o in llm.score(QUERIES, DOCUMENTS, pooling_params=raw)]
    with torch.no_grad():
        pairs = zip(QUERIES, DOCUMENTS, strict=True)
        wanted = [margin(model, chat_tokenizer, p, "Find the cause.", chunk or 1) for p in pairs]
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    likely = [
        o.outputs.score for o in llm.score(QUERIES, DOCUMENTS, pooling_params=PoolingParams(**told))
    ]
    np.testing.assert_allclose(likely, 1 / (1 + np.exp(-np.array(wanted))), atol=2e-5)
    if chunk:
        once = prepare_scores(llm.model, QUERIES, [DOCUMENTS[0]] * 3)
        assert [len(part.requests) for part in once.parts] == [1, 3]
        with pytest.raises(RequestError, match="reads a document beside each prompt"):
            llm.classify("a prompt alone")


def test_means_of_neighbours():
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2)
    wanted = [[1, 2], [5, 6], [8, 9]]
    np.testing.assert_array_equal(Apart("{}", 2).pooled(vectors), wanted)
