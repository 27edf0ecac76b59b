"""The peers that `images.py` compares with: transformers' models in torch, and vLLM."""

import inspect
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import offline
from gpu import seconds

from jaxpool.engine.batch import Request

BATCHES = {"cpu": (1, 4, 10), "cuda": (16, 64, 256)}  # of which the fastest counts


class Peer:
    """transformers' model of a folder, from pictures to normalized vectors."""

    def __init__(self, folder: Path, device: str, dtype: str, attention: str):
        import torch
        from transformers import AutoModel

        self.torch, self.device = torch, device
        self.processor = image_processor(folder)
        kind = getattr(torch, dtype)
        model = AutoModel.from_pretrained(folder, dtype=kind, attn_implementation=attention)
        self.model, self.dtype = model.eval().to(device), kind
        self.image = getattr(model.config, "image_token_id", None)

    def inputs(self, pictures: Sequence, requests: Sequence[Request]) -> dict:
        """What the model takes: pixels, and the ids of the text around them."""
        found = dict(self.processor(list(pictures), return_tensors="pt"))
        if self.image is not None:
            found |= self._ids([request.ids for request in requests])
        return {
            name: x.to(self.device, self.dtype if x.is_floating_point() else None)
            for name, x in found.items()
        }

    def _ids(self, ids: Sequence[np.ndarray]) -> dict:
        sizes = np.array([len(each) for each in ids])
        padded = np.zeros((len(ids), sizes.max()), np.int64)
        for row, each in zip(padded, ids, strict=True):
            row[: len(each)] = each
        seen = np.arange(sizes.max()) < sizes[:, None]
        made = {"input_ids": padded, "attention_mask": seen.astype(np.int64)}
        if "mm_token_type_ids" in inspect.signature(self.model.forward).parameters:
            made["mm_token_type_ids"] = (padded == self.image).astype(np.int64)
        return {name: self.torch.from_numpy(x) for name, x in made.items()}

    def vectors(self, inputs: dict) -> np.ndarray:
        """Normalized vectors, in host memory."""
        with self.torch.inference_mode():
            if self.image is None:
                found = self.model.get_image_features(**inputs)
                found = getattr(found, "pooler_output", found)
            else:
                last = inputs["attention_mask"].sum(-1) - 1
                hidden = self.model(**inputs, use_cache=False).last_hidden_state
                found = hidden[self.torch.arange(len(last), device=self.device), last]
            return self.torch.nn.functional.normalize(found.float(), dim=-1).cpu().numpy()

    def encode(self, pictures: Sequence, requests: Sequence[Request], size: int) -> np.ndarray:
        """The vectors of pictures, in batches."""
        parts = (slice(start, start + size) for start in range(0, len(pictures), size))
        return np.concatenate([self.vectors(self.inputs(pictures[p], requests[p])) for p in parts])

    def prepared(self, pictures: Sequence, requests: Sequence[Request], size: int) -> list[dict]:
        """The inputs of batches."""
        parts = (slice(start, start + size) for start in range(0, len(pictures), size))
        return [self.inputs(pictures[part], requests[part]) for part in parts]


def image_processor(folder: Path):
    """transformers' image processor of a folder: torchvision's where that is installed."""
    import transformers

    try:
        return transformers.AutoImageProcessor.from_pretrained(folder)
    except ImportError:  # some versions want torchvision for the choice alone
        facts = json.loads((folder / "preprocessor_config.json").read_text())
        kind = getattr(transformers, f"{facts['image_processor_type']}Pil")
        return kind.from_pretrained(folder)


def fastest(
    folder: Path, device: str, dtype: str, pictures, requests
) -> tuple[Peer, list[dict], dict]:
    """The peer in its fastest setting, its inputs, and what that setting is."""
    from transformers.utils import is_flash_attn_2_available

    half = dtype != "float32" and device == "cuda"
    kinds = ["sdpa"] + ["flash_attention_2"] * (half and is_flash_attn_2_available())
    best: tuple = (float("inf"),)
    for kind in kinds:
        peer = Peer(folder, device, dtype, kind)
        for size in sorted({min(len(pictures), n) for n in BATCHES[device]}):
            inputs = peer.prepared(pictures, requests, size)
            took = seconds(lambda: [peer.vectors(x) for x in inputs], 1)  # noqa: B023
            if took < best[0]:
                best = took, peer, inputs, {"attention": kind, "batch": size}
    return best[1:]


class Vllm:
    """A vLLM of a folder in a process of its own, which is stopped while it is not asked."""

    def __init__(self, folder: Path, model: Path, dtype: str, pictures: Sequence):
        files = [model / f"{i}.png" for i in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            picture.save(file, compress_level=1)
        prompts = [{"image": str(file)} for file in files]
        python = folder / "venv/bin/python"
        self.run, self.worker = offline.vllm(python, model, dtype, prompts)
        self._signal(signal.SIGSTOP)

    def encode(self, file: Path | None = None) -> None:
        """The vectors of all pictures, saved as a NumPy file where one is given."""
        self._signal(signal.SIGCONT)
        self.run(str(file or ""))
        self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the process; its engine is one of its own."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        os.killpg(self.worker.pid, number)
