"""Hidden states equal to transformers', whatever the fields of config.json say or leave out."""

import random
import shutil

import numpy as np
import pytest
import torch

from converters.checkpoint import open_checkpoint
from tests.differential import config_cases
from tests.differential.config_cases import Case
from tests.differential.references import attempt, difference, hidden_states, link
from tests.parity import texts

FAST, MANY = 16, 1500
FEW = ("Bert",)  # each family has operations of its own to compile
# Where transformers fails in the middle of its code, on a field that decides no number.
FAILS = {
    "chunk_size_feed_forward": "a way to save memory",
    "add_cross_attention": "of models with an encoder beside them",
    "is_decoder": "T5's decoder has other tensors; its encoder is what embeds",
    "_attn_implementation": "a kernel of torch",
    "pad_token_id": "absent, its default may lie outside of the vocabulary, and nothing reads it",
    "partial_rotary_factor": "of families that turn all features",
    "head_dim": "null is the hidden size shared among the heads",
    "sliding_window": "0 and null are no window",
    "layer_types": "a window that nothing gives a size to is none",
    "use_sliding_window": "false takes away the size that layer_types would need",
}
REFUSED = {
    "unexpected tensors": "a tensor without a place says that config.json is wrong",
    "an odd number of features": "no published model turns half a pair",
    "inner_group_num must be 1": "no published ALBERT has other groups",
    "scale_attn_by_inverse_layer_idx": "no published pooling model has it",
    "must be at least 2": "a window of a token alone",
}


def theirs(case: Case, folder, ids):
    """What transformers gives, weights in float32."""
    model_class = config_cases.reference_class(case.family)
    model, info = model_class.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=False
    )
    missing = [name for name in info["missing_keys"] if "pooler" not in name]
    if missing:
        raise LookupError(f"tensors {missing[:3]} are not there, and made up")
    model.eval()
    with torch.no_grad():
        given = [torch.from_numpy(x[None].astype(np.int64)) for x in ids]
        return [model(input_ids=x)[0][0].numpy() for x in given]


def ours(folder, ids):
    return hidden_states(open_checkpoint(folder), ids)


def compare(case: Case, root) -> str | None:
    folder = root / "case"
    link(config_cases.base(case.family, root), folder)
    case.write(folder)
    ids = texts(97)
    found = difference(attempt(theirs, case, folder, ids), attempt(ours, folder, ids))
    shutil.rmtree(folder)
    return found


def reason(case: Case, found: str) -> str | None:
    """Why a disagreement stands: the list of those that are meant."""
    fields = dict(case.fields)
    if found.startswith("theirs refuses"):
        return next((why for name, why in FAILS.items() if name in fields), None)
    if found.startswith("ours refuses"):
        return next((why for said, why in REFUSED.items() if said in found), None)
    if fields.get("is_causal", False) in (True, None):
        return "transformers heeds it, or not, by whether a batch has padding"
    if case.family == "Gemma2" and fields.get("use_bidirectional_attention"):
        return "its configuration documents what its code does not do"
    return None


def differences(cases, root) -> list[str]:
    found = [(case, what) for case in cases if (what := compare(case, root))]
    return [f"{case}: {what}" for case, what in found if not reason(case, what)]


def test_some_fields(tmp_path):
    cases = [case for case in config_cases.singles() if case.family in FEW]
    assert not differences(random.Random(0).sample(cases, FAST), tmp_path)


def test_a_fault_is_found(tmp_path, monkeypatch):
    """A field that is read where transformers ignores it, and one that is not read."""
    real = open_checkpoint
    case = Case("Bert", (("layer_norm_eps", 0.1),))
    assert compare(case, tmp_path) is None
    unread = lambda folder: real(folder, {"layer_norm_eps": 1e-12})  # noqa: E731
    monkeypatch.setitem(globals(), "open_checkpoint", unread)
    assert "differs by" in compare(case, tmp_path)


@pytest.mark.slow
def test_every_field_by_itself(tmp_path):
    assert not differences(config_cases.singles(), tmp_path)


@pytest.mark.slow
def test_several_fields_at_once(tmp_path):
    assert not differences(map(config_cases.several, range(MANY)), tmp_path)
