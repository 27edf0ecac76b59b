"""Static embeddings against sentence-transformers: a table and a mean, no special tokens."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer

import jaxpool
from converters.families.static import fold
from converters.files.tensors import Manifest
from converters.report import CheckpointError

TEXTS = ["Hello world", "a much longer sentence about cats and dogs", "one", "日本語のテキスト"]


@pytest.fixture(params=["StaticEmbedding", "model2vec", "model2vec-shared", "model2vec-weighed"])
def folder(request, minilm, tmp_path):
    tokenizer = Tokenizer.from_file(str(minilm.model.checkpoint.folder / "tokenizer.json"))
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 20))
    static = StaticEmbedding(tokenizer, embedding_weights=table.astype(np.float32))
    SentenceTransformer(modules=[static, Normalize()], device="cpu").save(str(tmp_path))
    if request.param != "StaticEmbedding":
        file = next(tmp_path.rglob("model.safetensors"))
        rng, count = np.random.default_rng(1), len(table)
        tensors = {"embeddings": load_file(file)["embedding.weight"]}
        if "shared" in request.param:  # a vocabulary of 500 rows, and a weight a token
            tensors["embeddings"] = tensors["embeddings"][:500]
            tensors["mapping"] = rng.integers(0, 500, count)
        if request.param.endswith(("shared", "weighed")):
            tensors["weights"] = rng.random(count)
        save_file(tensors, file)
        facts = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
        (file.parent / "config.json").write_text(json.dumps(facts))
    return tmp_path


def test_static_embeddings(folder, tmp_path_factory):
    llm = jaxpool.LLM(str(folder))
    ours = np.array([o.outputs.embedding for o in llm.embed(TEXTS, use_tqdm=False)])
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)
    exported = llm.model.export(tmp_path_factory.mktemp("exported"))
    again = SentenceTransformer(str(exported), device="cpu").encode(TEXTS)
    np.testing.assert_array_equal(again, wanted)


def test_a_text_without_tokens_is_zero(folder):
    texts = ["one", "", "  ", "日本語"]
    llm = jaxpool.LLM(str(folder))
    wanted = SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert not wanted[1:3].any()
    ours = np.array([o.outputs.embedding for o in llm.embed(texts, use_tqdm=False)])
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)
    assert not llm.model.encode([""]).any()
    (tokens,) = llm.encode([""], pooling_task="token_embed", use_tqdm=False)
    assert tokens.outputs.data.shape == (0, wanted.shape[1])


def test_one_weight_a_token():
    shapes = {"embedding.weight": [5, 2], "mapping": [7], "weights": [6]}
    source = Manifest({name: {"shape": shape} for name, shape in shapes.items()})
    with pytest.raises(CheckpointError, match="differ in the number of tokens.*7.*6"):
        fold(source)
