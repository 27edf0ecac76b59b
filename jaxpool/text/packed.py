"""Requests on their way to another process: what all have once, their ids in one array."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from jaxpool.text.prepared import Prepared


def pack(requests: Sequence[Prepared]) -> tuple:
    """What `unpack` makes these requests of, in half the time that a pickle of each takes."""
    each = [vars(request) for request in requests]
    first = each[0]
    same = {n: v for n, v in first.items() if all(fields[n] is v for fields in each)}
    same.pop("ids", None)
    columns = {n: [fields[n] for fields in each] for n in first if n not in same and n != "ids"}
    ids = [fields["ids"] for fields in each]
    sizes = list(map(len, ids))
    whole = ids[0] if len(ids) == 1 else np.concatenate(ids)
    # As bytes: the pickle of a small array is larger than the array.
    return sizes, whole.astype(np.int32, copy=False).tobytes(), same, columns


def unpack(packed: tuple) -> list[Prepared]:
    """The requests that were packed."""
    sizes, content, same, columns = packed
    ids = np.frombuffer(content, np.int32)
    ends = np.cumsum([0, *sizes]).tolist()
    made = []
    for place, (start, stop) in enumerate(pairwise(ends)):
        request = object.__new__(Prepared)  # as `Prepared.of` does
        own = {name: values[place] for name, values in columns.items()}
        request.__dict__.update(same, ids=ids[start:stop], **own)
        made.append(request)
    return made
