"""config.json in the forms that are found: each field absent, null, or with another value."""

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import transformers as hf

from tests.converters.families import test_deberta, test_decoders, test_encoders, test_t5
from tests.parity import save_random

CONFIGS = test_encoders.CONFIGS | test_decoders.CONFIGS | test_decoders.BOTH_WAYS
for _name, (_family, _fields) in test_deberta.CASES.items():
    CONFIGS[f"{_family} {_name}"] = getattr(hf, f"{_family}Config")(**_fields)
for _family, _mlp in test_t5.CASES:
    _config = getattr(hf, f"{_family}Config")(**test_t5.COMMON, feed_forward_proj=_mlp)
    CONFIGS[f"{_family} {_mlp}"] = _config

ABSENT = object()
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh", "quick_gelu")
# Fields that tensors have to agree with: another number is another checkpoint.
SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim", "d_model"),
    *("max_position_embeddings", "type_vocab_size", "embedding_size", "moe_intermediate_size"),
    *("d_ff", "d_kv", "n_embd", "n_inner", "n_layer", "n_positions", "dim", "hidden_dim"),
    *("n_layers", "num_layers", "input_embedding_size", "output_embedding_size", "n_ctx"),
)
# What transformers never reads, or reads for training and generation alone.
UNREAD = ("dtype", "transformers_version", "architectures", "model_type", "id2label", "label2id")
# Keys that configurations of other families, of remote code or of older libraries have.
STRAY: dict[str, tuple] = {
    "partial_rotary_factor": (0.5,),
    "is_decoder": (True,),
    "is_causal": (False, True),
    "sliding_window": (4, 0, None),
    "use_sliding_window": (True, False),
    "max_window_layers": (0, 1),
    "rope_theta": (123.0, 5),
    "rope_scaling": (
        {"type": "linear", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {"rope_type": "default"},
        {},
        None,
    ),
    "rope_parameters": ({"rope_type": "linear", "factor": 3.0, "rope_theta": 50.0}, {}),
    "position_embedding_type": ("absolute", "relative_key", "relative_key_query"),
    "use_bidirectional_attention": (True, "all_attention"),
    "layer_types": (["full_attention"] * 3, ["sliding_attention"] * 3),
    "attention_bias": (True, False),
    "mlp_bias": (True,),
    "qkv_bias": (True,),
    "head_dim": (None,),
    "num_key_value_heads": (None,),
    "tie_word_embeddings": (True, False),
    "torch_dtype": ("float16", "bfloat16"),
    "dtype": ("float16", None),
    "pad_token_id": (None, 0, 1, 7),
    "chunk_size_feed_forward": (2,),
    "attn_logit_softcapping": (None, 3.0),
    "final_logit_softcapping": (1.0,),
    "query_pre_attn_scalar": (3,),
    "add_cross_attention": (True,),
    "tie_encoder_decoder": (True,),
    "_attn_implementation": ("eager", "sdpa"),
    "attn_implementation": ("eager",),
    "_name_or_path": ("some/model",),
    "auto_map": ({"AutoModel": "modeling_other.OtherModel"},),
    "architectures": (None, [], ["UnknownModel"]),
    "gradient_checkpointing": (True,),
    "pruned_heads": ({}, {"0": [1]}),
    "quantization_config": (None,),
    "use_cache": (True, False),
    "output_hidden_states": (True,),
    "output_attentions": (True,),
    "return_dict": (False,),
    "torchscript": (True,),
    "use_return_dict": (False,),
    "num_labels": (5,),
    "id2label": (None, {"0": "a"}),
    "finetuning_task": ("x",),
    "attention_dropout": (0.5,),
    "hidden_dropout_prob": (0.5,),
    "layer_norm_eps": (0.1,),
    "rms_norm_eps": (0.1,),
    "hidden_act": ("relu",),
    "hidden_activation": (None, "relu"),
    "model_max_length": (4,),
    "max_length": (4,),
    "pretraining_tp": (2,),
    "use_flash_attn": (True,),
    "parallel_residual": (True,),
    "scale_attn_by_inverse_layer_idx": (True,),
    "local_attention": (2,),
    "global_attn_every_n_layers": (1,),
}


class Case(NamedTuple):
    """Fields of a config.json that are changed, or (`ABSENT`) taken away."""

    family: str
    fields: tuple[tuple[str, Any], ...]

    def __str__(self):
        said = ", ".join(
            f"{n} absent" if v is ABSENT else f"{n}={json.dumps(v)}" for n, v in self.fields
        )
        return f"{self.family}: {said}"

    def write(self, folder: Path) -> None:
        """Make the change in a folder."""
        file = folder / "config.json"
        config = json.loads(file.read_text())
        for name, value in self.fields:
            if value is ABSENT:
                config.pop(name, None)
            else:
                config[name] = value
        file.unlink()
        file.write_text(json.dumps(config))


def reference_class(family: str):
    """The torch class of a family's base model."""
    name = type(CONFIGS[family]).__name__.removesuffix("Config")
    return getattr(hf, name + ("EncoderModel" if "T5" in name else "Model"))


def base(family: str, root: Path) -> Path:
    """The unchanged folder of a family, written once."""
    folder = root / family
    if not folder.is_dir():
        scale = 0.0 if "Gemma" in type(CONFIGS[family]).__name__ else 1.0
        save_random(reference_class(family), CONFIGS[family], folder, scale=scale)
    return folder


@cache
def changes(family: str) -> tuple[tuple[str, Any], ...]:
    """Every single change of a family's config.json."""
    written = json.loads(CONFIGS[family].to_json_string(use_diff=False))
    found = []
    for name, value in written.items():
        if name in UNREAD:
            continue
        found += [(name, ABSENT), (name, None)]
        found += [(name, other) for other in _others(name, value)]
    found += [(name, value) for name, values in STRAY.items() for value in values]
    return tuple(found)


def _others(name: str, value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif "act" in name and isinstance(value, str):
        yield from (other for other in ACTIVATIONS if other != value)
    elif isinstance(value, float):
        yield value * 2 + 0.01
        yield str(value)
    elif isinstance(value, int) and name not in SIZES:
        yield from (value + 1, max(value - 1, 0), float(value))
    elif isinstance(value, list):
        yield value[::-1]
        yield value[:-1]


def singles() -> list[Case]:
    """Each change of each family by itself."""
    return [Case(family, (change,)) for family in CONFIGS for change in changes(family)]


def several(seed: int) -> Case:
    """Two to four changes of one family at once."""
    rng = random.Random(seed)
    family = rng.choice(list(CONFIGS))
    chosen = rng.sample(changes(family), rng.randint(2, 4))
    return Case(family, tuple(dict(chosen).items()))
