"""Generated tokenizer folders: a tokenizer.json of four kinds, and all files that may change it."""

import json
import random
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

from benchmarks.tokenizer_parity import texts

BRACKETS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ANGLES = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
ROLES = {**ANGLES, "cls": "<s>", "sep": "</s>"}
# The classes that the families' checkpoints name, and the model types beside them, by kind.
CLASSES = {
    "pieces": ("Bert", "BertTokenizerFast", "DistilBert", "Electra", "MPNet", "Own"),
    "bytes": ("Roberta", "RobertaTokenizerFast", "GPT2", "Qwen2", "LlamaTokenizerFast", "Own"),
    "unigram": ("XLMRoberta", "Camembert", "Albert", "T5", "DebertaV2", "RemBert", "Own"),
    "spaces": ("Llama", "LlamaTokenizerFast", "Gemma", "CodeLlama", "Own"),
}
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend", None)
TYPES = {
    "pieces": ("bert", "distilbert", "electra", "mpnet", "nomic_bert", "ernie", "qwen2"),
    "bytes": ("roberta", "gpt2", "qwen2", "qwen3", "llama", "mistral", "modernbert", "deberta"),
    "unigram": ("xlm-roberta", "camembert", "albert", "t5", "deberta-v2", "rembert", "qwen2"),
    "spaces": ("llama", "mistral", "gemma", "gemma2", "phi3", "internlm2", "qwen2"),
}
FLAGS = (
    *("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space"),
    *("keep_accents", "split_by_punct", "add_bos_token", "add_eos_token", "legacy"),
    *("split_special_tokens", "clean_up_tokenization_spaces", "trim_offsets"),
)
PLACES = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "map")


@cache
def trained(kind: str) -> str:
    """The tokenizer.json of a kind, trained on docstrings."""
    names = BRACKETS if kind == "pieces" else ANGLES
    fast, trainer = _untrained(kind, list(names.values()))
    fast.train_from_iterator([text.replace("\x00", "") for text in texts(300)], trainer)
    first, last = ("[CLS]", "[SEP]") if kind == "pieces" else ("<s>", "</s>")
    ids = [(token, fast.token_to_id(token)) for token in (first, last)]
    if kind != "spaces":
        pair = f"{first} $A {last} $B:1 {last}:1"
        fast.post_processor = processors.TemplateProcessing(f"{first} $A {last}", pair, ids)
    return fast.to_str()


def _untrained(kind: str, special: list[str]):
    if kind == "pieces":
        fast = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        fast.normalizer = normalizers.BertNormalizer()
        fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return fast, WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    if kind == "unigram":
        fast = Tokenizer(models.Unigram())
        fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        options = {"special_tokens": special, "unk_token": "<unk>", "show_progress": False}
        return fast, UnigramTrainer(vocab_size=600, **options)
    bytes_ = kind == "bytes"
    fast = Tokenizer(models.BPE(unk_token=None if bytes_ else "<unk>"))
    fast.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if bytes_ else pre_tokenizers.Metaspace()
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet() if bytes_ else []
    options = {"special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    return fast, BpeTrainer(vocab_size=600, **options)


def write(folder: Path, seed: int) -> dict:
    """Write the folder of a seed; what its files say, for the message of a failure."""
    rng = random.Random(seed)
    kind = rng.choice(list(CLASSES))
    parts = json.loads(trained(kind))
    said = _config(rng, kind, len(parts["model"]["vocab"]))
    files = {"tokenizer.json": parts, "tokenizer_config.json": said.pop("config"), **said}
    if rng.random() < 0.8:
        files["config.json"] = {"model_type": rng.choice(TYPES[kind])}
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return {"kind": kind} | {k: v for k, v in files.items() if k != "tokenizer.json"}


def _config(rng: random.Random, kind: str, size: int) -> dict:
    name = rng.choice(CLASSES[kind] + GENERIC)
    plain = name is None or name in GENERIC or name.endswith("Fast")
    config = {"tokenizer_class": name if plain else f"{name}Tokenizer"} if name else {}
    for flag in FLAGS:
        if rng.random() < 0.25:
            # transformers refuses most classes with a null flag: few of them leave more to compare.
            config[flag] = None if rng.random() < 0.05 else rng.choice([True, False])
    names = BRACKETS if kind == "pieces" else ROLES
    for role, token in names.items():
        form = rng.choice([None, token, token, _entry(token, rng)])
        if form is not None:
            config[f"{role}_token"] = form
    if rng.random() < 0.3:
        types = rng.choice([[], ["token_type_ids"]])
        config["model_input_names"] = ["input_ids", *types, "attention_mask"]
    if rng.random() < 0.3:
        config["truncation_side"] = rng.choice(["left", "right"])
    if rng.random() < 0.5:
        config["model_max_length"] = rng.choice([16, 512, 1e30])
    return {"config": config, **_added(rng, config, size)}


def _entry(token: str, rng: random.Random, special: bool = True) -> dict:
    flags = {k: rng.random() < 0.3 for k in ("lstrip", "rstrip", "single_word")}
    # Without the type transformers refuses most classes.
    kind = {"__type": "AddedToken"} if rng.random() < 0.95 else {}
    return kind | {"content": token, "normalized": not special, "special": special, **flags}


def _added(rng: random.Random, config: dict, size: int) -> dict[str, dict]:
    """Added tokens, in some of the places; `config` gets those of tokenizer_config.json."""
    files: dict[str, dict] = {}
    if rng.random() < 0.3:
        files["added_tokens.json"] = {"<json>": size}
    place = rng.choice([*PLACES, None, None])
    if place == "added_tokens_decoder":
        config[place] = {str(size): _entry("<ent>", rng, special=rng.random() < 0.5)}
    elif place == "map":
        files["special_tokens_map.json"] = {"additional_special_tokens": ["<ent>"]}
    elif place:
        config[place] = ["<ent>"]
    return files
