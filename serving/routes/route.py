"""The route of a JSON body: check, parse, validate, call."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, get_args, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from serving import bounds

BAD_JSON = {"type": "json_invalid", "msg": "JSON decode error", "input": {}}
ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")  # perhaps a surrogate
MANY = {
    "type": "too_many_errors",
    "loc": ("body",),
    "msg": "More errors than can be shown",
    "input": {},
}
NO_BODY = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}


class JsonRoute(APIRoute):
    """Calls an endpoint `(body, request)` with its validated body, after the route's checks.

    FastAPI documents it like any other. Its general way to resolve dependencies takes longer than
    all else the host does for a text, and nothing of it is needed for one body. `direct` is None
    where the endpoint has no body.
    """

    @cached_property
    def direct(self) -> Callable[[bytes, Request], Any] | None:
        """What answers the content of a body."""
        return self.handler()

    def handler(self) -> Callable[[bytes, Request], Any] | None:
        """The endpoint behind its checks and the validation of its body."""
        endpoint, checks = self.endpoint, [d.dependency for d in self.dependencies if d.dependency]
        hint = get_type_hints(endpoint).get("body")
        if hint is None:
            return None
        schemas = get_args(hint) or (hint,)

        async def handle(content: bytes, request: Request) -> Response:
            for check in checks:
                await check(request)
            return await endpoint(validated(schemas, content), request)

        return handle

    def get_route_handler(self) -> Callable[[Request], Any]:
        """What answers a request; endpoints without a body are FastAPI's own business."""
        direct = self.direct
        if direct is None:
            return super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await direct(await request.body(), request)

        return handle


def parsed(content: bytes) -> Any:
    """The value of some JSON; fields that are null count as left out, as clients mean them.

    Raises `ValueError` for bytes that are no JSON, and for half of a surrogate pair, which is no
    text: neither a tokenizer nor an answer could have it.
    """
    bounds.check_bytes(content)
    text = content.decode(json.detect_encoding(content))
    value = json.loads(text)
    if len(content) > bounds.ODD and isinstance(value, dict | list):
        bounds.check_values(value)
    if ESCAPED.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half of a surrogate pair: {error.object[error.start]!a}") from None
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v is not None or k == "input"}  # is required
    return value


def validated(schemas: Sequence[type[BaseModel]], content: bytes) -> BaseModel:
    """The body of some JSON, or a `RequestValidationError` that says where it is wrong.

    Of several schemas it is the first, unless the body has the field that is another's `mark`.
    """
    if not content:
        raise RequestValidationError([NO_BODY])
    try:
        value, schema = parsed(content), schemas[0]
        if isinstance(value, dict):
            schema = next((s for s in schemas[1:] if getattr(s, "mark", None) in value), schema)
        # from_attributes: the error of a body that is no object then reads as FastAPI's.
        return schema.model_validate(value, from_attributes=True)
    except ValidationError as error:
        if (count := error.error_count()) > bounds.ERRORS:
            raise RequestValidationError([MANY | {"ctx": {"count": count}}]) from None
        details = error.errors(include_url=False)
        raise RequestValidationError(
            [one | {"loc": ("body", *one["loc"])} for one in details]
        ) from None
    except (ValueError, RecursionError) as error:
        where, reason = getattr(error, "pos", 0), getattr(error, "msg", str(error))
        detail = BAD_JSON | {"loc": ("body", where), "ctx": {"error": reason}}
        raise RequestValidationError([detail]) from None
