"""SPLADE: folders that sentence-transformers' SparseEncoder saves, against what it computes."""

import numpy as np
import pytest
import torch
import transformers as hf
from sentence_transformers import SparseEncoder
from sentence_transformers.sentence_transformer.modules import Router
from sentence_transformers.sparse_encoder.modules import (
    MLMTransformer,
    SparseStaticEmbedding,
    SpladePooling,
)

import jaxpool
from converters.report import CheckpointError
from jaxpool.engine.batch import SLOTS, Request, slots_of
from tests.parity import save_random
from tests.small import TEXTS, add_tokenizer, config

DISTIL = hf.DistilBertConfig(
    vocab_size=30522, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=64
)
FAMILIES = {
    "bert": (hf.BertForMaskedLM, config()),
    "distilbert": (hf.DistilBertForMaskedLM, DISTIL),
}


@pytest.mark.parametrize(
    "family, strategy, activation",
    [
        ("bert", "max", "relu"),
        ("distilbert", "max", "relu"),
        ("distilbert", "sum", "log1p_relu"),
        ("bert", "max", "log1p_relu"),
    ],
)
def test_saved_by_sentence_transformers(family, strategy, activation, tmp_path):
    model_class, sizes = FAMILIES[family]
    made = add_tokenizer(save_random(model_class, sizes, tmp_path / "made"))
    modules = [MLMTransformer(str(made)), SpladePooling(strategy, activation)]
    reference = SparseEncoder(modules=modules, device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))
    llm = jaxpool.LLM(str(tmp_path / "saved"))
    assert "sparse" in llm.supported_tasks
    outputs = llm.encode(TEXTS, pooling_task="sparse", use_tqdm=False)
    ours = np.stack([output.outputs.data for output in outputs])
    wanted = reference.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert ours.shape == wanted.shape and 0.01 < np.mean(wanted > 0) < 0.99
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-4)


def test_a_saved_limit_of_active_dimensions(tmp_path):
    made = add_tokenizer(save_random(*FAMILIES["bert"], tmp_path / "made"))
    modules = [MLMTransformer(str(made)), SpladePooling()]
    reference = SparseEncoder(modules=modules, device="cpu", max_active_dims=9)
    reference.save_pretrained(str(tmp_path / "saved"))
    outputs = jaxpool.LLM(str(tmp_path / "saved")).encode(
        TEXTS, pooling_task="sparse", use_tqdm=False
    )
    ours = np.stack([output.outputs.data for output in outputs])
    wanted = reference.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert (np.count_nonzero(wanted, axis=1) == 9).all()
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("special", [{}, {"cls_token_id": 101, "sep_token_id": 102}])
def test_vllm_calls_the_sparse_vector_an_embedding(special, tmp_path):
    made = add_tokenizer(save_random(*FAMILIES["bert"], tmp_path / "made"))
    overrides = {"architectures": ["BertSpladeSparseEmbeddingModel"]} | special
    llm = jaxpool.LLM(str(made), hf_overrides=overrides)
    assert llm.pooling_task == "embed"
    outputs = llm.embed(TEXTS, use_tqdm=False)
    model = hf.BertForMaskedLM.from_pretrained(made).eval()
    for output in outputs:
        ids = torch.tensor([output.prompt_token_ids])
        with torch.no_grad():
            weights = torch.log1p(torch.relu(model(input_ids=ids).logits[0]))
        wanted = (weights[1:-1] if special else weights).amax(0) if len(weights) > 2 else None
        if wanted is not None:
            np.testing.assert_allclose(output.outputs.embedding, wanted, atol=1e-4)


def test_other_poolings_are_refused(tmp_path):
    made = add_tokenizer(save_random(*FAMILIES["bert"], tmp_path / "made"))
    SparseEncoder(
        modules=[MLMTransformer(str(made)), SpladePooling()], device="cpu"
    ).save_pretrained(str(tmp_path / "saved"))
    file = tmp_path / "saved" / "1_SpladePooling" / "config.json"
    file.write_text(file.read_text().replace('"max"', '"mean"'))
    with pytest.raises(CheckpointError, match="wanted pooling_strategy max or sum"):
        jaxpool.LLM(str(tmp_path / "saved"))


def test_queries_from_a_table(tmp_path):
    """Inference-free queries: a Router of a table of word weights and of SPLADE for documents."""
    made = add_tokenizer(save_random(*FAMILIES["bert"], tmp_path / "made"))
    documents = [MLMTransformer(str(made)), SpladePooling("max", "log1p_relu")]
    weights = torch.rand(30522, generator=torch.Generator().manual_seed(0))
    table = SparseStaticEmbedding(documents[0].tokenizer, weights, frozen=True)
    router = Router.for_query_document(query_modules=[table], document_modules=documents)
    reference = SparseEncoder(modules=[router], device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))
    llm = jaxpool.LLM(str(tmp_path / "saved"))
    again = jaxpool.LLM(str(llm.model.export(tmp_path / "exported")))
    for side in ("query", "document"):
        encode = getattr(reference, f"encode_{side}")
        wanted = encode(TEXTS, convert_to_sparse_tensor=False).numpy()
        for one in (llm, again):
            outputs = one.encode(TEXTS, pooling_task="sparse", input_type=side, use_tqdm=False)
            ours = np.stack([output.outputs.data for output in outputs])
            np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-4)
        steps = llm.model.task("sparse", side).steps
        program = llm.model.executor.compiled(((steps,), *llm.model.engine.shapes[0])).as_text()
        assert ("dot(" in program) == (side == "document"), "a table needs no forward"
    plain = llm.encode(TEXTS[:1], pooling_task="sparse", use_tqdm=False)
    np.testing.assert_allclose(plain[0].outputs.data, wanted[0], rtol=0, atol=1e-4)


def test_only_the_texts_of_a_batch_get_vectors(tmp_path):
    """As many as the slots of a batch have room for, whatever the rows could hold."""
    made = add_tokenizer(save_random(*FAMILIES["bert"], tmp_path / "made"))
    modules = [MLMTransformer(str(made)), SpladePooling()]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(tmp_path / "saved"))
    llm = jaxpool.LLM(str(tmp_path / "saved"), data_parallel_size=2)
    engine, task = llm.model.engine, llm.model.task("sparse")
    ids = llm.model.tokenizer(["a b", "c", "the sun and the moon"] * 200)
    requests = [Request(tokens.ids) for tokens in ids]
    plans, _ = engine.plan(requests, (task.steps,))
    assert max(len(plan.request) for plan in plans) <= 2 * SLOTS < len(requests)
    assert {(plan.rows, plan.length) for plan in plans} <= set(engine.shapes)
    results = dict(engine.run(task, requests))
    for index in (0, 1, 2):
        for other in range(index, 600, 3):
            np.testing.assert_allclose(results[other], results[index], rtol=0, atol=1e-5)
    alone = dict(jaxpool.load(str(tmp_path / "saved")).engine.run(task, requests[:3]))
    np.testing.assert_allclose([results[i] for i in alone], list(alone.values()), atol=1e-5)
    for rows, length in engine.shapes:
        (output,) = engine.executor.lower(((task.steps,), rows, length)).out_info
        assert output.shape == (slots_of(rows, length, 2), 30522)
        assert output.shape[0] <= 2 * SLOTS
