"""A GLiNER folder of random weights, and what the authors' package says of texts with it.

The package holds transformers back, so its answers are recorded, in gliner.json:

    pip install --no-deps gliner && python -m tests.tasks.gliner_model
"""

import json
import warnings
from pathlib import Path

import numpy as np
import transformers as hf
from safetensors.numpy import save_file

from converters.files.locate import resolve
from tests.conftest import MINILM

RECORD = Path(__file__).parent / "gliner.json"
SIZES = dict(
    vocab_size=30524,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    max_position_embeddings=128,
)
ENCODERS = {
    "bert": {"model_type": "bert", **SIZES},
    "deberta": {
        "model_type": "deberta-v2",
        **SIZES,
        "relative_attention": True,
        "position_buckets": 8,
        "max_relative_positions": -1,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
}
# The third marks words; its answers are those of another class of the package.
ENCODERS["marks"] = ENCODERS["bert"]
FACTS = {
    "marks": {"span_mode": "token_level", "hidden_size": 24, "num_rnn_layers": 1},
    "bert": {"hidden_size": 24, "max_width": 4, "num_rnn_layers": 1},
    "deberta": {
        "hidden_size": 32,
        "max_width": 12,
        "num_rnn_layers": 0,
        "embed_ent_token": False,
        "max_len": 9,
    },
}
TEXTS = [
    "Angela Merkel visited the Völklinger Hütte near Saarbrücken-Burbach in Saarland, in 2014.",
    "A cat sat.",
    "unbelievable electroencephalography in Tokyo, Japan",
]
LABELS = ["person", "place of work", "animal"]
KEYS = ("label", "score", "start", "end")
MANY = [*LABELS, *(f"kind {i}" for i in range(8))]  # more than the smallest program has room for


def tokenizer():
    """MiniLM's, with the markers."""
    made = hf.AutoTokenizer.from_pretrained(resolve(MINILM))
    made.add_special_tokens({"extra_special_tokens": ["<<ENT>>", "<<SEP>>"]})
    return made


def config(name: str) -> dict:
    """The fields of gliner_config.json."""
    marker = tokenizer().convert_tokens_to_ids("<<ENT>>")
    facts = {"span_mode": "markerV0", "class_token_index": marker, "vocab_size": 30524}
    return facts | FACTS[name] | {"model_name": "", "encoder_config": ENCODERS[name]}


def weights(shapes: dict) -> dict[str, np.ndarray]:
    """Random tensors of these shapes: norms lie around one, probabilities are not all one."""
    rng = np.random.default_rng(0)
    scale = {name: 0.3 if "bert_layer" in name else 0.18 for name in sorted(shapes)}
    scale |= {name: 0.3 for name in scale if name.startswith("scorer")}
    made = {n: rng.normal(0, std, shapes[n]).astype(np.float32) for n, std in scale.items()}
    if "scorer.out_mlp.3.bias" in made:  # some words are likely to be first, last and inside
        made["scorer.out_mlp.3.bias"] += np.float32([6.7, -0.5, 9.0])
    norm = [name for name in made if "norm" in name.lower() and "weight" in name]
    return made | {name: 1 + made[name] for name in norm}


def save(folder: Path, name: str) -> Path:
    """The folder of one of the recorded models."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gliner_config.json").write_text(json.dumps(config(name)))
    shapes = json.loads(RECORD.read_text())[name]["shapes"]
    save_file(weights(shapes), folder / "model.safetensors")
    tokenizer().save_pretrained(folder)
    return folder


def record() -> None:
    """Write what the authors' package says."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gliner.config import UniEncoderSpanConfig, UniEncoderTokenConfig
        from gliner.model import UniEncoderSpanGLiNER, UniEncoderTokenGLiNER

    calls = ((LABELS, 0.5, False), (LABELS, 0.4, True), (MANY, 0.5, False))
    recorded = {}
    for name in ENCODERS:
        kinds = {"marks": (UniEncoderTokenConfig, UniEncoderTokenGLiNER)}
        fields, model = kinds.get(name, (UniEncoderSpanConfig, UniEncoderSpanGLiNER))
        theirs = model(fields(**config(name)), tokenizer=tokenizer())
        state = theirs.model.state_dict()
        shapes = {key: list(x.shape) for key, x in state.items() if x.is_floating_point()}
        tensors = {key: torch.from_numpy(value) for key, value in weights(shapes).items()}
        theirs.model.load_state_dict(state | tensors)
        theirs.eval()
        answers = []
        for labels, threshold, nested in calls:
            options = {"threshold": threshold, "flat_ner": not nested, "batch_size": 1}
            found = theirs.inference(TEXTS, labels, **options)
            entities = [[[e[key] for key in KEYS] for e in one] for one in found]
            answers.append(
                {"labels": labels, "threshold": threshold, "nested": nested, "entities": entities}
            )
        recorded[name] = {"shapes": shapes, "answers": answers}
    RECORD.write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    record()
