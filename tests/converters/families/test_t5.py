"""T5, mT5 and UMT5 against Hugging Face torch: encoders, classifiers, relative buckets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from parity import check, check_packed, reference, save_random, texts
from safetensors.torch import load_file
from transformers.models.t5.modeling_t5 import T5Attention

import jaxpool
from converters.checkpoint import open_checkpoint
from jaxpool.nn.positions import relative_bucket

COMMON = dict(
    vocab_size=97,
    d_model=36,
    d_kv=10,
    d_ff=50,
    num_layers=3,
    num_heads=4,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
)


CASES = [("T5", "relu"), ("T5", "gated-gelu"), ("UMT5", "relu")]


@pytest.mark.parametrize(("family", "mlp"), CASES)
def test_hidden_states(family, mlp, tmp_path):
    config = getattr(hf, f"{family}Config")(**COMMON, feed_forward_proj=mlp)
    model_class = getattr(hf, f"{family}EncoderModel")
    check(save_random(model_class, config, tmp_path / "model"), model_class)


SLOW = [("T5", "TokenClassification")]
SLOW += [(x, f"{y}Classification") for x in ("MT5", "UMT5") for y in ("Sequence", "Token")]
HEADS = [
    ("T5", "SequenceClassification"),
    *(pytest.param(*x, marks=pytest.mark.slow) for x in SLOW),
]


@pytest.mark.parametrize(("family", "ending"), HEADS)
def test_heads(family, ending, tmp_path):
    """Classes of a text are read off a decoder that sees it too, one token behind."""
    config = getattr(hf, f"{family}Config")(
        **COMMON, num_decoder_layers=2, eos_token_id=7, decoder_start_token_id=0, num_labels=3
    )
    model_class = getattr(hf, f"{family}For{ending}")
    folder = save_random(model_class, config, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    ids = texts(97)
    for text in ids:
        text[text == 7] = 8
        text[-1] = 7
    wanted = reference(model, ids, False, "logits")
    task = "classify" if ending.startswith("Seq") else "token_classify"
    check_packed(folder, wanted, task, ids=ids)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("count", "longest"), [(32, 128), (8, 12), (16, 300)])
def test_buckets(count, longest, causal):
    distance = np.arange(-1000, 1 if causal else 1001, dtype=np.int32)
    wanted = T5Attention._relative_position_bucket(
        torch.from_numpy(distance).long(), not causal, count, longest
    )
    got = relative_bucket(jnp.asarray(distance), count, longest, causal)
    np.testing.assert_array_equal(got, wanted.numpy())


def test_sentence_transformers_folder(tmp_path):
    """sentence-t5's modules: the mean, a dense layer without bias, unit length."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Transformer,
    )
    from tokenizers import Tokenizer, models, processors

    config = hf.T5Config(**COMMON, feed_forward_proj="relu")
    folder = save_random(hf.T5EncoderModel, config, tmp_path / "t5")
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((c, -1.0) for c in "▁abcdefgh")]
    fast = Tokenizer(models.Unigram(words, 2))
    fast.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    hf.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    dense = Dense(36, 24, bias=False, activation_function=torch.nn.Identity())
    theirs = SentenceTransformer(
        modules=[Transformer(str(folder)), Pooling(36, "mean"), dense, Normalize()], device="cpu"
    )
    theirs.save(str(tmp_path / "st"))
    texts = ["abc", "a", "hgfedcba" * 3]
    outputs = jaxpool.LLM(str(tmp_path / "st")).embed(texts, use_tqdm=False)
    got = np.array([output.outputs.embedding for output in outputs])
    assert got.shape == (3, 24)
    np.testing.assert_allclose(got, theirs.encode(texts), rtol=0, atol=1e-5)

    def module(folder):
        return open_checkpoint(folder).read(np.float32, lambda path, array: array)["heads"]

    wanted = module(tmp_path / "st")
    (weights,) = (tmp_path / "st").glob("2_Dense/*.safetensors")
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    jax.tree.map(np.testing.assert_array_equal, module(tmp_path / "st"), wanted)
