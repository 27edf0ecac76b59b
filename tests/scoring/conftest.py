"""Small random checkpoints with a real tokenizer, and real pairs of texts."""

import pytest
from parity import save_random
from transformers import AutoTokenizer, BertConfig

QUERIES = ["How do vaccines work?", "capital of France", "What is a hash table"]
DOCUMENTS = [
    "A vaccine trains the immune system to recognise a pathogen without causing the disease.",
    "Paris is the capital and most populous city of France, on the river Seine.",
    "Hash tables map keys to values: a hash function picks the bucket in which a value is kept, "
    "and collisions are resolved by chaining or by probing the next free bucket.",
]
SMALL = dict(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=96,
    max_position_embeddings=128,
    vocab_size=30522,
)


@pytest.fixture(scope="session")
def bert_tokenizer(minilm):
    """The tokenizer of MiniLM as a transformers object, cut at 128 tokens."""
    return AutoTokenizer.from_pretrained(minilm.model.checkpoint.folder, model_max_length=128)


@pytest.fixture(scope="session")
def checkpoint(bert_tokenizer, tmp_path_factory):
    """`checkpoint(hf_class, config, name)`: the folder of a random model with that tokenizer."""

    def make(hf_class, config, name, length=128):
        folder = save_random(hf_class, config, tmp_path_factory.mktemp(name) / name)
        bert_tokenizer.model_max_length = length
        bert_tokenizer.save_pretrained(folder)
        return folder

    return make


def small_bert(**options):
    """The configuration of a small BERT."""
    return BertConfig(**SMALL, **options)
