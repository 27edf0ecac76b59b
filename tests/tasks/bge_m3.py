"""A small random BGE-M3: the published layout, and its documented math in plain torch."""

import json
from pathlib import Path

import torch
from parity import save_random
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

TEXTS = [
    "how do cats purr, and how do cats sleep",
    "A cat's larynx vibrates while the cat breathes in and out.",
    "the 猫 has no entry in this vocabulary",
    "Dogs bark.",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def save_tokenizer(folder: Path) -> int:
    """XLM-RoBERTa's kind of tokenizer over the words of `TEXTS`; the size of its vocabulary."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([text for text in TEXTS if "猫" not in text] * 4, trainer)
    ends = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, ends)
    names = dict(zip(("cls", "pad", "sep", "unk", "mask"), SPECIAL, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=60,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )
    fast.save_pretrained(folder)
    return len(fast)


def save_bge_m3(folder: Path) -> Path:
    """Weights of std 0.1, the files of BAAI/bge-m3: three heads, cls pooling, normalization."""
    config = XLMRobertaConfig(
        vocab_size=save_tokenizer(folder),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=62,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    save_random(XLMRobertaModel, config, folder)
    for name, size in (("sparse_linear", 1), ("colbert_linear", 24)):
        head = {"weight": 0.3 * torch.randn(size, 32), "bias": 0.1 * torch.randn(size)}
        torch.save(head, folder / f"{name}.pt")
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


class Reference:
    """The documented math on Hugging Face's model, a text at a time."""

    def __init__(self, folder: Path):
        self.model = XLMRobertaModel.from_pretrained(folder).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.sparse, self.colbert = (
            torch.load(folder / f"{name}_linear.pt") for name in ("sparse", "colbert")
        )

    @torch.no_grad()
    def __call__(self, text: str) -> tuple[torch.Tensor, dict[int, float], torch.Tensor]:
        """(dense vector, weight of each word, token vectors)."""
        inputs = self.tokenizer(text, return_tensors="pt")
        ids, hidden = inputs["input_ids"][0], self.model(**inputs).last_hidden_state[0]
        weights = torch.relu(hidden @ self.sparse["weight"].T + self.sparse["bias"])[:, 0]
        words: dict[int, float] = {}
        for i, weight in zip(ids.tolist(), weights.tolist(), strict=True):
            if i not in (0, 1, 2, 3) and weight > 0:
                words[i] = max(weight, words.get(i, 0.0))
        vectors = hidden[1:] @ self.colbert["weight"].T + self.colbert["bias"]
        unit = torch.nn.functional.normalize
        return unit(hidden[0], dim=0), words, unit(vectors, dim=-1)

    def score(self, query: str, document: str, weights: tuple) -> dict[str, float]:
        """The scores of a pair and their weighted means."""
        (q, q_words, q_tokens), (d, d_words, d_tokens) = self(query), self(document)
        dense = float(q @ d)
        sparse = sum(weight * d_words.get(i, 0.0) for i, weight in q_words.items())
        late = float((q_tokens @ d_tokens.T).max(dim=1).values.mean())
        a, b, c = weights
        return {
            "dense": dense,
            "sparse": sparse,
            "colbert": late,
            "sparse+dense": (a * dense + b * sparse) / (a + b),
            "colbert+sparse+dense": (a * dense + b * sparse + c * late) / (a + b + c),
        }
