"""Generated classifiers: labels, problem types, activations and where the files say them."""

import json
import random
from pathlib import Path
from typing import Any

import transformers as hf

from tests.differential import tokenizer_folders
from tests.differential.pipelines import DECODER, DIM, ENCODER, tokenizer_config
from tests.differential.references import link
from tests.differential.weight_forms import FORMS, weights, write
from tests.parity import save_random

SMALL = DECODER | dict(num_key_value_heads=2, head_dim=8)
FAMILIES: dict[str, tuple[str, type, dict]] = {
    "Bert": ("pieces", hf.BertConfig, ENCODER),
    "DistilBert": (
        "pieces",
        hf.DistilBertConfig,
        ENCODER | dict(dim=DIM, n_layers=2, n_heads=4, hidden_dim=48),
    ),
    "Electra": ("pieces", hf.ElectraConfig, ENCODER | dict(embedding_size=16)),
    "XLMRoberta": ("unigram", hf.XLMRobertaConfig, ENCODER | dict(type_vocab_size=1)),
    "DebertaV2": (
        "unigram",
        hf.DebertaV2Config,
        ENCODER | dict(relative_attention=True, pos_att_type="c2p|p2c", pooler_hidden_size=DIM),
    ),
    "ModernBert": ("bytes", hf.ModernBertConfig, ENCODER | dict(pad_token_id=1)),
    "Qwen3": ("bytes", hf.Qwen3Config, SMALL),
    "Llama": ("bytes", hf.LlamaConfig, SMALL),
    "Gemma2": ("bytes", hf.Gemma2Config, SMALL),
}
DECODERS = ("Qwen3", "Llama", "Gemma2")
ABSENT = "absent"
ACTIVATIONS = ("Sigmoid", "Identity", "Tanh")
PROBLEMS = (ABSENT, ABSENT, None, "regression", "single_label_classification")
TEXTS = [
    "Hello world",
    "A much longer sentence about cats and dogs, and the mice they chase over the house. " * 2,
    "Return the shape of the array.",
]
PAIRS = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))


def base(family: str, ending: str, labels: int, root: Path) -> Path:
    """The folder of an unchanged classifier, written once."""
    folder = root / f"{family} {ending} {labels}"
    if not folder.is_dir():
        kind, config, sizes = FAMILIES[family]
        scale = 0.0 if family == "Gemma2" else 1.0
        made = config(**sizes, num_labels=labels)
        save_random(getattr(hf, family + ending), made, folder, scale=scale)
        (folder / "tokenizer.json").write_text(tokenizer_folders.trained(kind))
        said = tokenizer_config(kind) | {"model_max_length": 36}
        write(folder / "tokenizer_config.json", said)
    return folder


def generate(folder: Path, root: Path, seed: int, families=tuple(FAMILIES)) -> dict:
    """Write the folder of a seed; what is odd in it."""
    rng = random.Random(seed)
    family = rng.choice(families)
    ending = rng.choice(["ForSequenceClassification"] * 3 + ["ForTokenClassification"])
    if not hasattr(hf, family + ending):
        ending = "ForSequenceClassification"
    labels = rng.choice([1, 1, 1, 2, 5])
    link(base(family, ending, labels, root), folder)
    said: dict[str, Any] = {"family": family, "ending": ending, "labels": labels}
    config = json.loads((folder / "config.json").read_text())
    said["config"] = _fields(rng, family, labels)
    config = {n: v for n, v in (config | said["config"]).items() if v != ABSENT}
    write(folder / "config.json", config)
    if ending == "ForSequenceClassification" and rng.random() < 0.3:
        said["settings"] = _settings(rng, labels)
        write(folder / "config_sentence_transformers.json", said["settings"])
    known = [form for form in FORMS if form not in ("prefix", "parts", "old bin")]
    said["weights"] = weights(rng, folder, family, known)
    return said


def _fields(rng: random.Random, family: str, labels: int) -> dict:
    names = {str(i): f"name {i}" for i in range(labels)}
    fields: dict[str, Any] = rng.choice(
        [
            {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}},
            {"id2label": names, "label2id": ABSENT},
            {"id2label": ABSENT, "label2id": ABSENT, "num_labels": labels},
            {"id2label": names, "num_labels": labels},
        ]
    )
    problem = rng.choice(PROBLEMS + (("multi_label_classification",) if labels > 1 else ()))
    fields["problem_type"] = problem
    name = f"torch.nn.modules.activation.{rng.choice(ACTIVATIONS)}"
    name = name.replace("activation.Identity", "linear.Identity")
    match rng.choice([None, None, "old", "new"]):
        case "old":
            fields["sbert_ce_default_activation_function"] = name
        case "new":
            fields["sentence_transformers"] = {"activation_fn": name, "version": "4.1.0"}
    if family in DECODERS:
        fields["pad_token_id"] = rng.choice([1, 1, 0, 2, 73])
    if family == "ModernBert":
        fields["classifier_pooling"] = rng.choice([ABSENT, "cls", "mean"])
        fields["classifier_activation"] = rng.choice([ABSENT, "gelu", "relu"])
    if rng.random() < 0.2:
        fields |= rng.choice(
            [
                {"hidden_act": rng.choice(["relu", "gelu_new"])},
                {"classifier_dropout": rng.choice([None, 0.3])},
                {"tie_word_embeddings": rng.choice([True, False])},
                {"is_decoder": False},
            ]
        )
    return fields


def _settings(rng: random.Random, labels: int) -> dict:
    """config_sentence_transformers.json of a CrossEncoder."""
    kind = rng.choice(["activation.Sigmoid", "linear.Identity"])
    settings: dict[str, Any] = {"model_type": "CrossEncoder"}
    if rng.random() < 0.7:
        settings["activation_fn"] = f"torch.nn.modules.{kind}"
    if rng.random() < 0.5:
        settings["prompts"] = rng.choice([{}, {"query": "q: "}])
    return settings
