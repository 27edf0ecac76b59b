"""Late interaction under vLLM's architecture names: token vectors against the math in torch."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from parity import save_random
from safetensors.torch import load_file, save_file
from scoring.conftest import DOCUMENTS, QUERIES, SMALL, small_bert
from scoring.test_late_interaction import _pylate

import jaxpool
from converters.report import CheckpointError

FLASH = "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig"
ROPE = {"rope_type": "default", "rope_theta": 55.0}
MODERN = hf.ModernBertConfig(
    **SMALL, pad_token_id=0, cls_token_id=101, sep_token_id=102, bos_token_id=101, eos_token_id=102
)
JINA = hf.JinaEmbeddingsV3Config(**SMALL, type_vocab_size=1, rope_parameters=ROPE)
# By vLLM's name: transformers' class, its configuration, the prefix on disk, fields of config.json.
NAMES = {
    "HF_ColBERT": (hf.BertModel, small_bert(), "bert.", {}),
    "ColBERTModernBertModel": (hf.ModernBertModel, MODERN, "model.", {}),
    "ColBERTJinaRobertaModel": (
        hf.JinaEmbeddingsV3Model,
        JINA,
        "roberta.",
        {
            "model_type": "xlm-roberta",
            "auto_map": {"AutoConfig": FLASH},
            "position_embedding_type": "rotary",
            "rotary_emb_base": 55.0,
            "rope_parameters": None,
        },
    ),
}


@pytest.fixture(scope="module")
def projection():
    return 0.1 * torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


def check(llm, model, tokenizer, projection):
    """Token vectors and sums of maxima are those of a linear layer on `model`."""
    texts, vectors = [*QUERIES, *DOCUMENTS], []
    for text in texts:
        with torch.no_grad():
            inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            hidden = model(**inputs).last_hidden_state[0]
        vectors.append(torch.nn.functional.normalize(hidden @ projection.T, dim=-1))
    assert llm.pooling_task == "token_embed"
    outputs = llm.encode(texts, pooling_task="token_embed", use_tqdm=False)
    for output, wanted in zip(outputs, vectors, strict=True):
        np.testing.assert_allclose(output.outputs.data, wanted, rtol=0, atol=1e-5)
    pairs = zip(vectors[:3], vectors[3:], strict=True)
    wanted = [float((query @ document.T).max(dim=1).values.sum()) for query, document in pairs]
    params = jaxpool.PoolingParams(extra_kwargs={"plain": True})
    scores = llm.score(QUERIES, DOCUMENTS, pooling_params=params, use_tqdm=False)
    np.testing.assert_allclose([s.outputs.score for s in scores], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_linear_among_the_weights(name, projection, bert_tokenizer, tmp_path):
    model_class, config, prefix, fields = NAMES[name]
    folder = save_random(model_class, config, tmp_path / "model")
    model = model_class.from_pretrained(folder).eval()
    tensors = load_file(folder / "model.safetensors")
    tensors = {prefix + key: tensor for key, tensor in tensors.items()}
    save_file(tensors | {"linear.weight": projection}, folder / "model.safetensors")
    file = folder / "config.json"
    facts = json.loads(file.read_text()) | {"architectures": [name]} | fields
    file.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))
    bert_tokenizer.save_pretrained(folder)
    check(jaxpool.LLM(str(folder)), model, bert_tokenizer, projection)


def test_linear_in_a_module(projection, bert_tokenizer, tmp_path):
    """GTE-ModernColBERT: PyLate's layout, of which vLLM is told the architecture by an override."""
    base = save_random(hf.ModernBertModel, MODERN, tmp_path / "base")
    bert_tokenizer.save_pretrained(base)
    _pylate(base, projection, tmp_path / "model", attend=False)
    overrides = {"architectures": ["ColBERTModernBertModel"]}
    llm = jaxpool.LLM(str(tmp_path / "model"), hf_overrides=overrides)
    assert llm.model.late_interaction is not None
    model = hf.ModernBertModel.from_pretrained(base).eval()
    check(llm, model, hf.AutoTokenizer.from_pretrained(tmp_path / "model"), projection)


def test_no_linear(bert_tokenizer, tmp_path):
    folder = save_random(hf.BertModel, small_bert(), tmp_path / "model")
    bert_tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"wanted a tensor linear\.weight"):
        jaxpool.LLM(str(folder), hf_overrides={"architectures": ["HF_ColBERT"]})
