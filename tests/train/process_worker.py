"""One process of a run of several: trains, writes its curve and its model (`test_processes`)."""

import json
import sys
from pathlib import Path

import jax

from jaxpool.train.trainer import Trainer
from tests.train.test_trainer import losses_of, options, pairs


def main(base: str, folder: str, address: str, number: str) -> None:
    """Two processes of two devices each, with parameters split over all."""
    jax.config.update("jax_num_cpu_devices", 2)
    group = {"coordinator_address": address, "num_processes": 2, "process_id": int(number)}
    settings = options(Path(folder), data=4, fsdp=True, save_steps=3, distributed=group)
    trainer = Trainer(base, pairs(40), settings)
    trainer.train()
    trainer.save(Path(folder) / "model")
    (Path(folder) / f"losses_{number}.json").write_text(json.dumps(losses_of(trainer)))


if __name__ == "__main__":
    main(*sys.argv[1:])
