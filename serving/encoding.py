"""Vectors as JSON numbers, base64 or raw bytes, in the dtype and byte order a client asks for."""

import base64
import sys
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import orjson
from fastapi.responses import Response

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "fp8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "fp8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}


def json_response(body: Any, status: int = 200, headers: dict | None = None) -> Response:
    """JSON by orjson: numpy arrays go out as the shortest text of their float32."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


def to_bytes(vector: np.ndarray, dtype: str = "float32", endianness: str = "native") -> memoryview:
    """The bytes of a vector (or of a matrix, flattened), without a copy where they are those."""
    kind = DTYPES[dtype]
    # float8_e4m3fn has no infinity: values beyond its range would become NaN.
    if dtype.startswith("fp8"):
        limit = float(ml_dtypes.finfo(kind).max)
        vector = np.clip(vector, -limit, limit)
    array = np.ascontiguousarray(vector, kind)
    order = sys.byteorder if endianness == "native" else endianness
    if order != sys.byteorder and kind.itemsize > 1:
        array = array.view(np.dtype(f"u{kind.itemsize}")).byteswap()
    return array.reshape(-1).view(np.uint8).data


def to_base64(vector: np.ndarray, dtype: str = "float32", endianness: str = "native") -> str:
    """Base64 text of `to_bytes`."""
    return base64.b64encode(to_bytes(vector, dtype, endianness)).decode()


def encode(vector: np.ndarray, request) -> np.ndarray | str:
    """What goes into a JSON body for a request's `encoding_format` float or base64."""
    if request.encoding_format == "float":
        return np.ascontiguousarray(vector, np.float32)
    return to_base64(vector, request.embed_dtype, request.endianness)


def bytes_response(
    vectors: Sequence[np.ndarray], request, head: dict, usage: dict, headers: dict
) -> Response:
    """All vectors as one body; `bytes` adds a `metadata` header that says where each lies."""
    chunks = [to_bytes(v, request.embed_dtype, request.endianness) for v in vectors]
    if request.encoding_format == "bytes":
        data, start = [], 0
        for index, (vector, chunk) in enumerate(zip(vectors, chunks, strict=True)):
            data.append(_place(index, request, start, start + len(chunk), vector.shape))
            start += len(chunk)
        metadata = {**head, "data": data, "usage": usage}
        headers = {**headers, "metadata": orjson.dumps(metadata).decode()}
    return Response(b"".join(chunks), 200, headers, media_type="application/octet-stream")


def _place(index: int, request, start: int, end: int, shape: tuple[int, ...]) -> dict:
    return {
        "index": index,
        "embed_dtype": request.embed_dtype,
        "endianness": request.endianness,
        "start": start,
        "end": end,
        "shape": shape,
    }
