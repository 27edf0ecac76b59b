"""Every Python example of README.md runs, in order."""

import re
from pathlib import Path

import jax
import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_python_examples_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    assert "EmbeddingOutput(hidden_size=384)" in capsys.readouterr().out
    assert 0.3 < float(names["value"]) < 0.9
    assert np.isfinite(names["gradient"]["layers"]["mlp"]["up"]["kernel"]).all()
