"""What loading costs in host memory, and that arrays over files are safe to keep."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.loading import write_checkpoint
from converters.files.buffers import aligned, copy_lines


@pytest.mark.slow
def test_a_gigabyte_takes_one_leaf_beyond_its_tree(tmp_path):
    assert write_checkpoint(tmp_path, 1.1).stat().st_size > 1e9
    code = f"import json, benchmarks.loading as b; print(json.dumps(b.memory({str(tmp_path)!r})))"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    facts = json.loads(printed)
    assert facts["tree"] > 1e9
    assert facts["added"] <= facts["tree"] + facts["leaf"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jax.numpy.bfloat16, None])
@pytest.mark.parametrize("shape", [(), (3,), (50, 7), (33, 5, 3), (2, 3, 4, 5)], ids=str)
def test_copies_in_lines_equal_plain_assignment(shape, dtype):
    rng = np.random.default_rng(0)
    source = rng.standard_normal(shape[::-1]).astype(jax.numpy.bfloat16)
    for part in (source.T, np.flip(source.T), np.swapaxes(source.T, 0, -1) if shape else source):
        target = aligned(part.shape, part.dtype if dtype is None else dtype)
        copy_lines(target, part)
        np.testing.assert_array_equal(target, part.astype(target.dtype))
        assert target.ctypes.data % 64 == 0


def test_cpu_takes_buffers_over():
    buffer = aligned((64, 64), np.float32)
    array = jax.device_put(buffer, jax.devices()[0])
    assert array.unsafe_buffer_pointer() == buffer.ctypes.data
