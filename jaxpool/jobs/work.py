"""Rows between being read and being computed."""

from dataclasses import dataclass
from typing import Any


class RowError(ValueError):
    """A row that has no result, where on_error is "raise"."""

    def __init__(self, row: int, reason: str):
        super().__init__(f"row {row}: {reason}")
        self.row, self.reason = row, reason


@dataclass(frozen=True)
class Work:
    """Rows on their way: the good ones prepared, and the reasons why others are not."""

    rows: Any
    good: list[int]
    reasons: dict[int, str]
    prepared: Any
    tokens: int
