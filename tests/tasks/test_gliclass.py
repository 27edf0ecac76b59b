"""GLiClass against the authors' package: labels in one prompt with a text."""

import json
import shutil
import warnings

import numpy as np
import pytest
import transformers as hf
from parity import save_random
from safetensors.numpy import load_file
from tasks.test_zero_shot import LABELS, TEXTS

from converters.files.locate import resolve
from jaxpool import LLM
from tests.conftest import MINILM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports servers where they are installed
    from gliclass import GLiClassModel, GLiClassModelConfig, ZeroShotClassificationPipeline

SIZES = dict(
    vocab_size=30525,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    max_position_embeddings=128,
)
DEBERTA = hf.DebertaV2Config(
    **SIZES,
    relative_attention=True,
    position_buckets=8,
    max_relative_positions=-1,
    pos_att_type=["p2c", "c2p"],
    share_att_key=True,
    norm_rel_ebd="layer_norm",
    position_biased_input=False,
    type_vocab_size=0,
)
MODERN = hf.ModernBertConfig(
    **SIZES, pad_token_id=0, bos_token_id=101, eos_token_id=102, cls_token_id=101, sep_token_id=102
)
CASES = {
    "deberta": (DEBERTA, {"prompt_first": True}),
    "after the text": (DEBERTA, {"scorer_type": "mlp"}),
    "modernbert": (
        MODERN,
        {"prompt_first": True, "pooling_strategy": "avg", "scorer_type": "weighted-dot"},
    ),
    "bert": (
        hf.BertConfig(**SIZES),
        {"prompt_first": True, "extract_text_features": True, "embed_class_token": False},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def model(request, tmp_path_factory):
    """A folder of random weights, and the authors' own pipeline of it."""
    encoder, facts = CASES[request.param]
    tokenizer = hf.AutoTokenizer.from_pretrained(resolve(MINILM))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>"]})
    marker, separator = tokenizer.convert_tokens_to_ids(["<<LABEL>>", "<<SEP>>"])
    config = GLiClassModelConfig(
        encoder_config=encoder,
        encoder_model="",
        class_token_index=marker,
        text_token_index=separator,
        hidden_size=32,
        **facts,
    )
    folder = save_random(GLiClassModel, config, tmp_path_factory.mktemp("gliclass") / "model")
    tokenizer.save_pretrained(folder)
    theirs = GLiClassModel.from_pretrained(folder)
    return folder, ZeroShotClassificationPipeline(theirs, tokenizer, device="cpu")


def wanted(reference, text, kind):
    """The probabilities of all labels, which the pipeline gives at a threshold below all."""
    (found,) = reference(text, LABELS, threshold=-1.0, classification_type=kind)
    return {one["label"]: one["score"] for one in found}


def test_probabilities(model):
    folder, reference = model
    llm = LLM(str(folder))
    ours = llm.classify(TEXTS, labels=LABELS, multi_label=True, use_tqdm=False)
    alone = llm.classify(TEXTS, labels=LABELS, use_tqdm=False)
    for text, several, one in zip(TEXTS, ours, alone, strict=True):
        scores = wanted(reference, text, "multi-label")
        given = [scores[label] for label in LABELS]
        np.testing.assert_allclose(several.outputs.probs, given, atol=1e-5)
        odds = np.array(given) / (1 - np.array(given))
        np.testing.assert_allclose(one.outputs.probs, odds / odds.sum(), atol=1e-5)
        best = wanted(reference, text, "single-label")
        assert best == pytest.approx({LABELS[np.argmax(odds)]: max(one.outputs.probs)}, abs=1e-5)
    assert np.ptp([output.outputs.probs for output in ours]) > 5e-4


def test_it_is_written_again(model, tmp_path):
    folder, _ = model
    LLM(str(folder)).model.export(tmp_path / "copy")
    one, other = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "copy"))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_labels_are_needed_and_not_to_be_spelled(model):
    llm = LLM(str(model[0]))
    with pytest.raises(ValueError, match="name them as `labels`"):
        llm.classify("a cat", use_tqdm=False)
    with pytest.raises(ValueError, match="3 labels were given and 4 read"):
        llm.classify("a cat <<LABEL>> sat", labels=LABELS, use_tqdm=False)
    with pytest.raises(ValueError, match="Scoring API"):
        llm.score("a cat", "a dog", use_tqdm=False)


def test_what_is_not_implemented_is_refused(model, tmp_path):
    for fields, message in (
        ({"use_lstm": True}, "use_lstm must be False, found True"),
        ({"scorer_type": "hopfield"}, "scorer_type must be one of"),
    ):
        folder = shutil.copytree(model[0], tmp_path / message[:8])
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))
        with pytest.raises(ValueError, match=message):
            LLM(str(folder))
