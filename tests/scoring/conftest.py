"""Small random checkpoints with a real tokenizer, and real pairs of texts."""

import pytest
from parity import save_random
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import BertConfig, PreTrainedTokenizerFast

from jaxpool.scoring.template import load_template, shipped_templates

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


CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|embed_token|>", "<|rerank_token|>")
DECODER = dict(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
    intermediate_size=96,
    max_position_embeddings=2048,
    pad_token_id=0,
)


@pytest.fixture(scope="session")
def chat_tokenizer():
    """A byte-level tokenizer like Qwen's: cased, special tokens of chats, answers of one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=list(CHAT),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = [load_template(name).source for name in shipped_templates()]
    answers = "no\nyes\nYes\n" * 50  # what rerankers answer with
    tokenizer.train_from_iterator([*QUERIES, *DOCUMENTS, *prompts, answers], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=CHAT[0], model_max_length=4096
    )


@pytest.fixture(scope="session")
def decoder(chat_tokenizer, tmp_path_factory):
    """`decoder(hf_class, name, **config)`: the folder of a random decoder with that tokenizer."""

    def make(hf_class, name, **options):
        config = hf_class.config_class(vocab_size=len(chat_tokenizer), **DECODER | options)
        folder = save_random(hf_class, config, tmp_path_factory.mktemp("decoder") / name)
        chat_tokenizer.save_pretrained(folder)
        return folder

    return make


def small_bert(**options):
    """The configuration of a small BERT."""
    return BertConfig(**SMALL, **options)
