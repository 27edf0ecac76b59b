"""A short training run in a process of its own, for tests that kill it: `OUTPUT MODEL STEPS`."""

import os
import sys
from pathlib import Path

import numpy as np

os.environ["JAX_PLATFORMS"] = "cpu"


def main(output: str, model: str, steps: int) -> None:
    """Train, and leave the parameters in OUTPUT."""
    from jaxpool.nn.params import flatten
    from jaxpool.train.options import TrainingOptions
    from jaxpool.train.trainer import Trainer

    random = np.random.default_rng(0)
    words = np.array("the a cat dog house tree runs sees eats big small red blue".split())
    made = lambda i: " ".join([*random.choice(words, 8), str(i)])  # noqa: E731
    pairs = [(made(i), made(i)) for i in range(64)]
    options = TrainingOptions(
        output, batch_size=8, max_steps=steps, learning_rate=1e-3, save_steps=2, dropout=(0.1, 0.1)
    )
    trainer = Trainer(model, pairs, options)
    trainer.train()
    np.savez(Path(output) / "end.npz", **flatten(trainer.params))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
