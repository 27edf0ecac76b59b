"""What queries and documents of a late-interaction model are made of: markers, expansion, skips.

As ColBERT (arXiv 2004.12832) and its successors were trained: a marker before each text, queries
filled up with mask tokens, and tokens of documents (punctuation) whose vectors do not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.tasks.token_pooling import TokenPooling
from jaxpool.text.prepared import Prepared

SIDES = ("query", "document")


def tells_sides(model) -> bool:
    """Whether a model puts queries in other words than documents."""
    words = model.conversation
    return model.late_interaction is not None or bool(words and words.sides)


@dataclass(frozen=True)
class Expansion:
    """Mask tokens that fill queries up to `length` tokens.

    token: the vocabulary entry, None for the tokenizer's mask; attend: whether other tokens see
    them; cut: whether longer queries are cut to `length`.
    """

    length: int
    token: str | None = None
    attend: bool = False
    cut: bool = True


@dataclass(frozen=True)
class LateInteraction:
    """The settings of a checkpoint, by side ("query", "document").

    prompts: the text before each, its marker first; lengths: where each is cut; skipped: words
    whose token vectors are left out; markers: whether prompts begin with entries of the vocabulary
    that the tokenizer would take apart; mean: scores are divided by the query's tokens; pooling:
    what becomes of the token vectors, where there shall be fewer.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, int | None] = field(default_factory=dict)
    expansion: Expansion | None = None
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    markers: bool = False
    mean: bool = False
    pooling: TokenPooling | None = None

    @property
    def unseen(self) -> bool:
        """Whether queries have tokens that no other token sees."""
        return self.expansion is not None and not self.expansion.attend

    def register(self, tokenizer) -> None:
        """Make the tokenizer read each marker as the one token that it is in the vocabulary."""
        from tokenizers import AddedToken

        for prompt in self.prompts.values() if self.markers else ():
            known = [p for p in (prompt, *prompt.split(None, 1)[:1]) if tokenizer.id(p) is not None]
            if known and tokenizer.fast.encode(known[0], add_special_tokens=False).tokens != known:
                token = AddedToken(known[0], normalized=False, special=True)
                tokenizer.fast.add_special_tokens([token])

    def limit(self, side: str) -> int | None:
        """Tokens a text of one side is cut to; None for no cut."""
        expansion = self.expansion if side == "query" else None
        if expansion is None:
            return self.lengths.get(side)
        return expansion.length if expansion.cut else self.lengths.get(side)

    def apply(self, request: Prepared, side: str, tokenizer) -> Prepared:
        """A request with its expansion and with the tokens whose vectors count."""
        ids, count = request.ids, 0
        if side == "query" and self.expansion is not None:
            count = max(0, self.expansion.length - len(ids))
            token = self.expansion.token
            mask = tokenizer.mask_id if token is None else tokenizer.id(token)
            ids = np.concatenate([ids, np.full(count, mask, np.int32)])
        known = [tokenizer.id(word) for word in self.skipped.get(side, ())]
        skipped = [i for i in known if i is not None]
        pooling = self.pooling if self.pooling and side in self.pooling.sides else None
        if pooling and request.epilogues[0].precision != "float32":
            raise RequestError("this model pools token vectors, which is not done in a precision")
        expanded = replace(
            request,
            ids=ids,
            types=None if request.types is None else np.pad(request.types, (0, count)),
            unseen=count if self.unseen else 0,
        )
        if not (skipped or pooling):
            return expanded
        return expanded.keeping(np.flatnonzero(~np.isin(ids, skipped)), pooling)
