"""Texts to token ids: the checkpoint's fast tokenizer, prompts, truncation."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as FastTokenizer

NO_LIMIT = 10**9  # tokenizer_config.json says 1e30 where it knows no limit


class Tokenizer:
    """The tokenizer of a checkpoint folder: batches in, `(ids, types)` out.

    tokenizer.json is read by the `tokenizers` library itself, which starts in milliseconds;
    transformers is asked where there is no such file, and for chat templates.
    """

    def __init__(self, folder: Path, lower_case: bool = False):
        self.folder, self.lower_case = folder, lower_case
        file = folder / "tokenizer.json"
        self.fast = FastTokenizer.from_file(str(file)) if file.is_file() else self._convert()
        self.fast.no_padding()
        self.fast.no_truncation()

    def _convert(self) -> FastTokenizer:
        return self.transformers.backend_tokenizer

    @cached_property
    def transformers(self):
        """The same tokenizer as a transformers object."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def max_length(self) -> int:
        """`model_max_length` of tokenizer_config.json; `NO_LIMIT` where it says nothing."""
        file = self.folder / "tokenizer_config.json"
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return int(min(config.get("model_max_length") or NO_LIMIT, NO_LIMIT))

    def __call__(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        truncate: int | None = None,
        side: str | None = None,
        special_tokens: bool = True,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """`(ids, token types)` of each text or pair; `truncate` cuts to that many tokens."""
        if self.lower_case:
            texts = [t.lower() if isinstance(t, str) else tuple(map(str.lower, t)) for t in texts]
        if truncate is None:
            self.fast.no_truncation()
        else:
            self.fast.enable_truncation(
                truncate, strategy="longest_first", direction=side or "right"
            )
        encodings = self.fast.encode_batch_fast(list(texts), add_special_tokens=special_tokens)
        return [(np.array(e.ids, np.int32), np.array(e.type_ids, np.int32)) for e in encodings]
