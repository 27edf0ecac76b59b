"""BART and its twins against Hugging Face torch: the decoder's hidden states, the classifier."""

import numpy as np
import pytest
import torch
import transformers as hf
from parity import check, save_random
from published import remake

from jaxpool import LLM, PoolingParams
from tests.small import add_tokenizer

SEP = 102  # ends a text in MiniLM's vocabulary
SIZES = dict(
    vocab_size=97,
    d_model=36,
    encoder_layers=3,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=2,
    encoder_ffn_dim=50,
    decoder_ffn_dim=40,
    max_position_embeddings=64,
    scale_embedding=True,
)
TEXTS = ["a cat sat on the mat", "Berlin", ("It rains in Paris today.", "The weather is bad.")]


OWN = {"BigBirdPegasus": {"attention_type": "original_full"}}
TWINS = [pytest.param(x, marks=pytest.mark.slow) for x in ("Mvp", "PLBart", "BigBirdPegasus")]


@pytest.mark.parametrize("family", ["Bart", "MBart", *TWINS])
def test_hidden_states(family, tmp_path):
    model_class = getattr(hf, f"{family}Model")
    config = getattr(hf, f"{family}Config")(**SIZES, **OWN.get(family, {}))
    check(save_random(model_class, config, tmp_path / "model"), model_class)


@pytest.fixture(scope="module", params=["Bart", "MBart", *TWINS])
def classifier(request, tmp_path_factory):
    """A classifier over MiniLM's vocabulary, and transformers' own of the same files."""
    labels = ["contradiction", "neutral", "entailment"]
    config = getattr(hf, f"{request.param}Config")(
        **SIZES | {"vocab_size": 30522} | OWN.get(request.param, {}),
        eos_token_id=SEP,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    model_class = getattr(hf, f"{request.param}ForSequenceClassification")
    folder = save_random(model_class, config, tmp_path_factory.mktemp("bart") / "model")
    return add_tokenizer(folder), model_class.from_pretrained(folder).eval()


def test_classes_of_packed_texts(classifier):
    folder, model = classifier
    llm, raw = LLM(str(folder)), PoolingParams(use_activation=False)
    ids = [tokens.ids.tolist() for tokens in llm.model.tokenizer(TEXTS)]
    ids += [[*ids[0], 7, 8, 9]]  # the state at the end of text, whatever follows
    outputs = llm.classify(ids, pooling_params=raw, use_tqdm=False)
    for text, output in zip(ids, outputs, strict=True):
        with torch.no_grad():
            wanted = model(torch.tensor([text])).logits[0].numpy()
        np.testing.assert_allclose(output.outputs.probs, wanted, atol=1e-4)


def test_labels_of_a_call(classifier):
    folder, _ = classifier
    labels = ["politics", "cats and dogs"]
    reference = hf.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    for text, output in zip(
        TEXTS[:2], LLM(str(folder)).classify(TEXTS[:2], labels=labels, use_tqdm=False), strict=True
    ):
        wanted = reference(text, labels)
        scores = dict(zip(wanted["labels"], wanted["scores"], strict=True))
        np.testing.assert_allclose(
            output.outputs.probs, [scores[name] for name in labels], atol=2e-6
        )


def test_a_file_with_the_embedding_under_a_copys_name(classifier, tmp_path):
    folder, model = classifier
    copy = tmp_path / "copy"
    model.save_pretrained(copy)
    remake(
        copy,
        lambda ts: {n.replace("shared", "decoder.embed_tokens"): t for n, t in ts.items()},
    )
    add_tokenizer(copy)
    one, other = (LLM(str(f)).classify("a cat", use_tqdm=False)[0] for f in (folder, copy))
    assert one.outputs.probs == other.outputs.probs
