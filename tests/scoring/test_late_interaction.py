"""Late interaction in the three published layouts, against sentence-transformers."""

import json
import shutil

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scoring.conftest import DOCUMENTS, QUERIES, small_bert
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import (
    HierarchicalTokenPooling,
    MultiVectorMask,
)
from transformers import BertModel

import jaxpool
from jaxpool import PoolingParams

LONG = [" ".join(DOCUMENTS * 4), *DOCUMENTS[1:]]


@pytest.fixture(scope="module")
def bert(checkpoint):
    return checkpoint(BertModel, small_bert(), "late")


@pytest.fixture(scope="module")
def projection():
    return 0.1 * torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def _native(bert, projection, folder, **options):
    """A MultiVectorEncoder saved by sentence-transformers."""
    dense = Dense(
        64, 32, bias=False, activation_function=None, module_input_name="token_embeddings"
    )
    with torch.no_grad():
        dense.linear.weight.copy_(projection)
    model = MultiVectorEncoder(
        modules=[
            Transformer(
                str(bert), document_length=48, query_expansion=options.pop("expansion", None)
            ),
            dense,
            MultiVectorMask(skiplist_words=options.pop("words", [".", ","])),
            Normalize(module_input_name="token_embeddings"),
            *options.pop("pooling", []),
        ],
        prompts={"query": "[unused0] ", "document": "search: "},
        device="cpu",
        **options,
    )
    model.save_pretrained(str(folder))


def _pylate(bert, projection, folder, attend, **changes):
    """The files of PyLate: settings beside the modules, a marker that is one token."""
    shutil.copytree(bert, folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 127}')
    settings = {
        "model_type": "ColBERT",
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[unused0]",
        "document_prefix": "[unused1]",
        "query_length": 16,
        "document_length": 40,
        "attend_to_expansion_tokens": attend,
        "skiplist_words": ["the", ".", "a"],
    }
    settings = {k: v for k, v in (settings | changes).items() if v != "absent"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (folder / "1_Dense").mkdir()
    dense = {"in_features": 64, "out_features": 32, "bias": False, "use_residual": False}
    identity = "torch.nn.modules.linear.Identity"
    (folder / "1_Dense" / "config.json").write_text(
        json.dumps(dense | {"activation_function": identity})
    )
    save_file({"linear.weight": projection}, folder / "1_Dense" / "model.safetensors")


def _colbert_ai(bert, projection, folder, metadata):
    """The files of colbert-ai: the projection among the weights, settings in artifact.metadata."""
    shutil.copytree(bert, folder)
    tensors = {f"bert.{name}": t for name, t in load_file(bert / "model.safetensors").items()}
    save_file(
        tensors | {"linear.weight": projection},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((bert / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    (folder / "artifact.metadata").write_text(json.dumps(metadata))


LAYOUTS = {
    "native": (_native, {"expansion": {"strategy": "min", "length": 12}}),
    "mean": (_native, {"similarity_fn_name": "meanmaxsim"}),
    "pooled": (_native, {"pooling": [HierarchicalTokenPooling(2.5)], "words": []}),
    "pooled-both": (
        _native,
        {
            "expansion": {"strategy": "min", "length": 12},
            "pooling": [
                HierarchicalTokenPooling(
                    2,
                    num_protected_tokens=0,
                    normalize_embeddings=False,
                    tasks=["query", "document"],
                )
            ],
        },
    ),
    "pylate": (_pylate, {"attend": False}),
    "pylate-untyped": (_pylate, {"attend": False, "model_type": "absent"}),
    "pylate-null": (
        _pylate,
        {"attend": False, "model_type": "absent", "similarity_fn_name": None},
    ),
    "pylate-attend": (_pylate, {"attend": True}),
    "colbert-ai": (_colbert_ai, {"metadata": {"query_maxlen": 20, "doc_maxlen": 50}}),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def models(request, bert, projection, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "model"
    make, options = LAYOUTS[request.param]
    make(bert, projection, folder, **options)
    return jaxpool.LLM(str(folder)), MultiVectorEncoder(str(folder), device="cpu")


def test_token_vectors_and_scores(models):
    llm, reference = models
    wanted = {
        "query": reference.encode_query(QUERIES, convert_to_numpy=True),
        "document": reference.encode_document(LONG, convert_to_numpy=True),
    }
    for side, texts in (("query", QUERIES), ("document", LONG)):
        got = llm.encode(texts, pooling_task="token_embed", input_type=side, use_tqdm=False)
        for ours, theirs in zip(got, wanted[side], strict=True):
            np.testing.assert_allclose(ours.outputs.data, theirs, atol=1e-5)
    pairs = reference.similarity_pairwise(wanted["query"], wanted["document"])
    outputs = llm.score(QUERIES, LONG, use_tqdm=False)
    np.testing.assert_allclose([o.outputs.score for o in outputs], pairs, atol=1e-4)
    one = llm.score(QUERIES[0], LONG, use_tqdm=False)
    matrix = reference.similarity(wanted["query"][:1], wanted["document"])[0]
    np.testing.assert_allclose([o.outputs.score for o in one], matrix, atol=1e-4)
    assert [o.request_id for o in one] == ["0_1", "0_2", "0_3"]


def test_plain_mode_is_the_texts_and_nothing_else(models):
    llm, _ = models
    if llm.model.late_interaction.mean:
        return
    texts = [*QUERIES, *DOCUMENTS]
    plain = llm.encode(texts, pooling_task="token_embed", use_tqdm=False)
    assert [len(o.outputs.data) for o in plain] == [len(o.prompt_token_ids) for o in plain]
    vectors = [o.outputs.data for o in plain]
    wanted = jaxpool.maxsim_pairwise(vectors[:3], vectors[3:])
    params = PoolingParams(extra_kwargs={"plain": True})
    got = llm.score(QUERIES, DOCUMENTS, pooling_params=params, use_tqdm=False)
    np.testing.assert_allclose([o.outputs.score for o in got], wanted, atol=1e-4)


def test_an_unknown_side(models):
    llm, _ = models
    (document, passage) = (
        llm.encode("a cat", pooling_task="token_embed", input_type=side, use_tqdm=False)[0]
        for side in ("document", "passage")
    )
    np.testing.assert_array_equal(document.outputs.data, passage.outputs.data)
    message = "Unsupported input_type 'clustering'. Supported values: document, query"
    with pytest.raises(ValueError, match=message):
        llm.encode("a", pooling_task="token_embed", input_type="clustering")


@pytest.mark.slow
def test_no_number_of_documents_compiles_after_warmup(bert, projection, tmp_path):
    _colbert_ai(bert, projection, tmp_path / "late", {"query_maxlen": 16})
    llm = jaxpool.LLM(
        str(tmp_path / "late"), max_model_len=64, warmup=("token_embed",), forbid_compiles=True
    )
    executor, events = llm.model.executor, []
    before = executor.compilations
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.append(name) if "backend_compile" in name else None
    )
    for count in (1, 3, 70):
        llm.score(QUERIES[0], [DOCUMENTS[i % 3][: 20 + i] for i in range(count)], use_tqdm=False)
    llm.score(QUERIES, DOCUMENTS, use_tqdm=False)
    assert executor.compilations == before and not events
