"""Checkpoints of real shapes with random weights and synthetic words; nothing is downloaded."""

import json
from pathlib import Path

import numpy as np

BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
QWEN = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16}
GROUPED = {"num_key_value_heads": 8, "head_dim": 128}
# name: model_type and sizes of config.json, how its vectors are pooled
SHAPES = {
    "BERT-base": ("bert", BERT | {"intermediate_size": 3072, "vocab_size": 30522}, "mean"),
    "XLM-R-large": (
        "xlm-roberta",
        LARGE | {"intermediate_size": 4096, "vocab_size": 250002},
        "cls",
    ),
    "Qwen3-0.6B": (
        "qwen3",
        QWEN | GROUPED | {"intermediate_size": 3072, "vocab_size": 151669},
        "lasttoken",
    ),
}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000}
TINY |= {"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128}
SPECIAL = ("<s>", "<pad>", "<unk>")
WORDS = range(len(SPECIAL), 1000)


def texts(count: int, length: int) -> list[str]:
    """`count` texts of `length` tokens each."""
    ids = np.random.default_rng(length).integers(WORDS.start, WORDS.stop, (count, length))
    return [" ".join(f"w{i}" for i in row) for row in ids]


def make(folder: Path, name: str, longest: int, tiny: bool, device: str) -> None:
    """Write a shape as a folder that sentence-transformers loads."""
    import torch
    from transformers import AutoConfig, AutoModel

    kind, sizes, pooling = SHAPES[name]
    sizes = {size: TINY[size] for size in sizes} if tiny else sizes
    config = AutoConfig.for_model(
        kind, **sizes, max_position_embeddings=longest + 2, pad_token_id=SPECIAL.index("<pad>")
    )
    torch.manual_seed(0)
    with torch.device(device):
        AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    _tokenizer(longest).save_pretrained(folder)
    steps = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{step}"}
        for i, (path, step) in enumerate(steps.items())
    ]
    pooled = {"word_embedding_dimension": config.hidden_size, "pooling_mode": pooling}
    (folder / "1_Pooling").mkdir()
    for file, facts in {
        "modules.json": modules,
        "1_Pooling/config.json": pooled,
        "sentence_bert_config.json": {"max_seq_length": longest},
    }.items():
        (folder / file).write_text(json.dumps(facts))


def _tokenizer(longest: int):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = (*SPECIAL, *(f"w{i}" for i in WORDS))
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=longest,
    )
