"""Errors that a caller may want to tell apart."""

from typing import Any


class RequestError(ValueError):
    """A request that cannot be served; names the parameter and the value at fault where known."""

    def __init__(self, message: str, parameter: str | None = None, value: Any = None):
        super().__init__(message)
        self.parameter, self.value = parameter, value

    def __str__(self):
        facts = {"parameter": self.parameter, "value": self.value}
        known = ", ".join(f"{name}={fact}" for name, fact in facts.items() if fact is not None)
        return f"{super().__str__()} ({known})" if known else super().__str__()
