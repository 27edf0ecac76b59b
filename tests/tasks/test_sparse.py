"""SPLADE: folders that sentence-transformers' SparseEncoder saves, against what it computes."""

import numpy as np
import pytest
import transformers as hf
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

import jaxpool
from converters.report import CheckpointError
from tests.parity import save_random
from tests.tasks.conftest import TEXTS, add_tokenizer, config

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


def test_other_poolings_are_refused(tmp_path):
    made = add_tokenizer(save_random(*FAMILIES["bert"], tmp_path / "made"))
    SparseEncoder(
        modules=[MLMTransformer(str(made)), SpladePooling()], device="cpu"
    ).save_pretrained(str(tmp_path / "saved"))
    file = tmp_path / "saved" / "1_SpladePooling" / "config.json"
    file.write_text(file.read_text().replace('"max"', '"mean"'))
    with pytest.raises(CheckpointError, match="wanted pooling_strategy max or sum"):
        jaxpool.LLM(str(tmp_path / "saved"))
