"""Small random models that read images among the tokens of a text, and torch's results of them."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoImageProcessor, PreTrainedTokenizerFast

from tests.parity import save_random

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<bos>", "<eos>", "<pad>", "<image>", "<end_of_utterance>", "<fake_token_around_image>"),
    *("<global-img>", "<|begin_of_text|>", "<img>", "</img>", "<IMG_CONTEXT>"),
    *("<|image>", "<|image|>", "<image|>", "<|user|>", "<|end|>"),
    *(f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)),
)
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ("yes", "no")
IDS = {word: i for i, word in enumerate((*LETTERS, *WORDS, *SPECIAL))}
TEXT = dict(
    vocab_size=len(IDS) + 3,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=4096,
)


def add_tokenizer(
    folder: Path,
    bos: str | None = None,
    eos: str = "<|endoftext|>",
    pad: str = "<|endoftext|>",
    begins: bool = False,
) -> None:
    """A tokenizer of single bytes, a few words and special tokens; begins: it adds `bos`."""
    vocab = {letter: IDS[letter] for letter in LETTERS}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    if begins:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, IDS[bos])]
        )
    names = {"eos_token": eos, "pad_token": pad} | ({"bos_token": bos} if bos else {})
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def write_processor(folder: Path, kind: str, **facts) -> None:
    """Write preprocessor_config.json."""
    facts = {"image_processor_type": f"{kind}ImageProcessor"} | facts
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
TOKEN_IDS = {
    "image_token_id": IDS["<|image_pad|>"],
    "video_token_id": IDS["<|video_pad|>"],
    "vision_start_token_id": IDS["<|vision_start|>"],
    "vision_end_token_id": IDS["<|vision_end|>"],
}


def qwen3_vl(folder: Path, **changes) -> Path:
    """Qwen3-VL: two layers of the tower feed the first two of the text."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    vision = dict(
        depth=3,
        hidden_size=48,
        intermediate_size=56,
        num_heads=2,
        patch_size=8,
        spatial_merge_size=2,
        out_hidden_size=TEXT["hidden_size"],
        num_position_embeddings=36,
        deepstack_visual_indexes=[0, 2],
    )
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}
    text = TEXT | {"rope_parameters": rope | {"mrope_interleaved": True}}
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **TOKEN_IDS, **changes
    )
    save_random(Qwen3VLForConditionalGeneration, config, folder)
    size = {"shortest_edge": 16**2, "longest_edge": 96**2}
    write_processor(folder, "Qwen2VL", patch_size=8, merge_size=2, size=size, **HALF)
    add_tokenizer(folder)
    return folder


def qwen2_vl(folder: Path, **changes) -> Path:
    """Qwen2-VL: the tower has no table of positions, and no layer of it feeds the text."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = dict(
        depth=2,
        embed_dim=48,
        hidden_size=TEXT["hidden_size"],
        num_heads=2,
        patch_size=8,
        spatial_merge_size=2,
    )
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 1]}
    text = {name: size for name, size in TEXT.items() if name != "head_dim"}
    config = Qwen2VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision,
        tie_word_embeddings=True,
        **TOKEN_IDS,
        **changes,
    )
    save_random(Qwen2VLForConditionalGeneration, config, folder)
    facts = {"min_pixels": 16**2, "max_pixels": 96**2}
    write_processor(folder, "Qwen2VL", patch_size=8, merge_size=2, **facts)
    add_tokenizer(folder)
    return folder


def qwen2_5_vl(folder: Path, **changes) -> Path:
    """Qwen2.5-VL: one layer of the tower sees all of an image, two see squares of 4 x 4 patches."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = dict(
        depth=3,
        hidden_size=48,
        intermediate_size=56,
        out_hidden_size=TEXT["hidden_size"],
        num_heads=2,
        patch_size=8,
        spatial_merge_size=2,
        window_size=32,
        fullatt_block_indexes=[1],
    )
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 1]}
    text = {name: size for name, size in TEXT.items() if name != "head_dim"}
    config = Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision,
        tie_word_embeddings=True,
        **TOKEN_IDS,
        **changes,
    )
    save_random(Qwen2_5_VLForConditionalGeneration, config, folder)
    facts = {"min_pixels": 16**2, "max_pixels": 96**2}
    write_processor(folder, "Qwen2VL", patch_size=8, merge_size=2, **facts)
    add_tokenizer(folder)
    return folder


class QwenReference:
    """Hidden states of transformers' model, one prompt at a time."""

    def __init__(self, folder: Path, model_class):
        self.model = model_class.from_pretrained(folder).eval()
        self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil")

    @torch.no_grad()
    def __call__(self, ids: np.ndarray, images=()) -> np.ndarray:
        """The last hidden states `[T, D]` of ids whose placeholders are spread already."""
        return self.model(**self.inputs(ids, images)).last_hidden_state[0].numpy()

    def inputs(self, ids: np.ndarray, images=()) -> dict:
        """What transformers' processor makes of a prompt."""
        ids = torch.tensor(ids[None].astype(np.int64))
        if not images:
            return {"input_ids": ids}
        kinds = (ids == TOKEN_IDS["image_token_id"]).int()
        pixels = self.processor(list(images), return_tensors="pt")
        return {"input_ids": ids, "mm_token_type_ids": kinds, **pixels}
