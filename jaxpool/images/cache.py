"""`Cache`: what was computed, by what it was computed of, within a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class Cache:
    """Keeps values up to `most` bytes, of which the least recently used goes first.

    Safe for threads. Values are arrays or tuples of them, and not to be written to.
    """

    def __init__(self, most: int):
        self.most = most
        self.bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The value of a key; None where there is none."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of `size` bytes, unless it is larger than all that may be kept."""
        if size > self.most:
            return
        with self._lock:
            self.bytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while self.bytes > self.most:
                self.bytes -= self._values.popitem(last=False)[1][1]
