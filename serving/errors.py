"""Errors as clients of vLLM expect them, in the present envelope and the flat one before it."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jinja2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response

from serving.encoding import json_response

log = logging.getLogger("jaxpool.serving")

SHOWN_ERRORS, SHOWN_VALUE, SHOWN_ENTRY = 10, 200, 1000
TYPES = {
    400: "BadRequestError",
    401: "Unauthorized",
    404: "NotFoundError",
    408: "RequestTimeoutError",
    413: "PayloadTooLargeError",
    429: "RateLimitError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}
# Absolute paths, and relative ones of three parts and more.
PATHS = re.compile(r"(?<![\w/:.])(?:/|\.{1,2}/|~/)?(?:[\w.@+-]+/){2,}[\w.@+-]+|(?<![\w/:])/[\w.-]+")


class APIError(Exception):
    """An answer other than 200: status, message, and the parameter at fault if one is."""

    kind: str | None = None  # that of the status

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        value: Any = None,
        retry_after: int | None = None,
    ):
        detail = f" (parameter={param}, value={value})" if value is not None else ""
        detail = detail or (f" (parameter={param})" if param else "")
        super().__init__(message + detail)
        self.status, self.param, self.retry_after = status, param, retry_after

    def __reduce__(self):
        """In another process it is an error of the same answer."""
        return _sent, (str(self), self.status, self.kind, self.param, self.retry_after)


def _sent(
    message: str, status: int, kind: str | None, param: str | None, retry_after: int | None
) -> APIError:
    error = APIError(status, message, retry_after=retry_after)
    error.kind, error.param = kind, param
    return error


class InvalidUserInput(APIError):
    """What vLLM's routes of adapters call a wrong request."""

    kind = "InvalidUserInput"


def unknown_model(name: str) -> APIError:
    """The answer to a name that nothing has."""
    return APIError(404, f"The model `{name}` does not exist.")


class NotServed(Exception):
    """The route exists for other models than the one asked: answered like an unknown route."""


def missing(body: Any, *names: str) -> RequestValidationError:
    """The schema error of absent fields."""
    return RequestValidationError(
        [
            {"type": "missing", "loc": ("body", name), "msg": "Field required", "input": body}
            for name in names
        ]
    )


def unsupported_media_type() -> RequestValidationError:
    """The schema error of a body that is not JSON."""
    return RequestValidationError(["Unsupported Media Type: Only 'application/json' is allowed"])


def envelope(message: str, kind: str, param: str | None, code: int) -> dict:
    """The error body: nested as today, flat as it was."""
    error = {"message": sanitize(message), "type": kind, "param": param, "code": code}
    return {"error": error, "object": "error", **error}


def sanitize(message: str) -> str:
    """`message` without file paths."""
    return PATHS.sub("<path>", message)


def answer(
    status: int, message: str, kind: str | None = None, param: str | None = None
) -> Response:
    """An error response."""
    body = envelope(message, kind or TYPES.get(status, "InternalServerError"), param, status)
    return json_response(body, status)


def schema_message(errors: Iterable[dict | str]) -> str:
    """`N validation errors:` and the first of them, one a line."""
    errors = list(errors)
    lines = [_entry(error) for error in errors[:SHOWN_ERRORS]]
    plural = "" if len(errors) == 1 else "s"
    return f"{len(errors)} validation error{plural}:\n" + "\n".join(f"  {line}" for line in lines)


def _entry(error: dict | str) -> str:
    if isinstance(error, str):
        return error
    shown = {"type": error["type"], "loc": _location(error["loc"]), "msg": error["msg"]}
    shown["input"] = _value(error.get("input"))
    if error.get("ctx"):
        shown["ctx"] = error["ctx"]
    return str(shown)[:SHOWN_ENTRY]


def _value(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    return str(value)[:SHOWN_VALUE]


def _location(loc: Iterable) -> str:
    """A dotted path; the branches of a union are types and no fields."""
    parts = [str(part) for part in loc]
    return ".".join(part for part in parts if not re.search(r"[\[(]|^(str|int|list|dict)$", part))


class Gone(Exception):
    """The client has closed the connection."""


def respond(error: Exception, answer: Callable[..., Response] = answer) -> Response:
    """The answer to an exception of a handler, which `answer` writes."""
    match error:
        case APIError():
            response = answer(error.status, str(error), error.kind, error.param)
            if error.retry_after is not None:
                response.headers["Retry-After"] = str(error.retry_after)
            return response
        case RequestValidationError():
            first = error.errors()[0]
            param = _location(first["loc"]) if isinstance(first, dict) else None
            return answer(400, schema_message(error.errors()), "Bad Request", param)
        case NotServed():
            return json_response({"detail": "Not Found"}, 404)
        case Gone():
            return Response(status_code=499)  # nobody reads it; metrics and logs name it so
    log.error("unexpected error", exc_info=error)
    return answer(500, "Internal server error")


def install(app: FastAPI) -> None:
    """Let an application answer exceptions as `respond` does."""

    async def handle(request: Request, error: Exception) -> Response:
        return respond(error)

    for kind in (RequestValidationError, APIError, NotServed, Gone, Exception):
        app.add_exception_handler(kind, handle)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what the library raises about a caller's input into a 400."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, jinja2.TemplateError) as error:
        refusal = APIError(400, str(error))  # a RequestError's text has its parameter already
        refusal.param = getattr(error, "parameter", None)
        raise refusal from error
