"""How many JSON values a body may have, whatever its bytes: each costs up to 20 us and 2 KB.

What is more would hold the event loop for minutes: neither the parser nor the validator can be
interrupted, and both keep other threads waiting.
"""

from typing import Any

SEPARATORS = 2**21  # `,`, `[` and `{`, those in texts included; counted before the parser
VALUES = 2**19  # in all, just more than fit the queue by default
ODD = 2**15  # of them neither texts nor whole numbers
ERRORS = 1000  # more of them are not told one by one


def check_bytes(content: bytes) -> None:
    """Raise `ValueError` for a body that is not worth parsing."""
    if len(content) > SEPARATORS and sum(map(content.count, (b",", b"[", b"{"))) > SEPARATORS:
        raise ValueError(f"more than {SEPARATORS} values; send several requests")


def check_values(value: Any) -> None:
    """Raise `ValueError` where parsed JSON has too many values."""
    values = odd = 0
    left = [value]
    while left:
        part = left.pop()
        items = part.values() if isinstance(part, dict) else part
        rare = [item for item in items if type(item) is not int and type(item) is not str]
        left += [item for item in rare if isinstance(item, dict | list)]
        values, odd = values + len(part), odd + len(rare)
        if values > VALUES or odd > ODD:
            raise ValueError(
                f"more than {VALUES} values, or more than {ODD} that are neither texts nor whole "
                "numbers; send several requests"
            )
