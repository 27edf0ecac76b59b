"""Parity of one checkpoint with Hugging Face torch: what every family's tests are made of.

    folder = save_random(BertModel, BertConfig(...), tmp_path)   # weights of std 0.1
    check(folder, BertModel)                                      # hidden states, round trip
    check(folder, BertForSequenceClassification, "classify")      # logits of a head

Ragged lengths, padded and packed, scanned and unrolled, fp32 and bf16; every comparison is on real
positions only, against one text at a time without padding.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from safetensors.numpy import load_file

from converters.checkpoint import open_checkpoint
from jaxpool.engine import batch as batching
from jaxpool.engine import planner
from jaxpool.engine.batch import Request
from jaxpool.engine.executor import programs
from jaxpool.nn.transformer import forward

LENGTHS = (5, 19, 12)
HIDDEN_TOLERANCE = 2e-5
LOGIT_TOLERANCE = 1e-4
BF16_COSINE = 0.999
BUCKETS = (48,)
SIZES = dict(
    vocab_size=97,
    hidden_size=36,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=50,
    max_position_embeddings=64,
    num_labels=3,
)


def save_random(
    model_class, config, folder: Path, rename=lambda name: name, scale: float = 1.0
) -> Path:
    """Save a model with random weights of std 0.1; `rename` gives the published names on disk.

    Norm weights lie around `scale` (0 for Gemma, which stores them less one).
    """
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = 0.1 * torch.randn_like(tensor)
            own = name.lower().replace("prelayernorm.", "")  # a model's name, not a norm's
            tensor.copy_(scale + noise if "norm" in own and "weight" in own else noise)
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = {rename(name): torch.from_numpy(t) for name, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def texts(vocab: int, seed: int = 0) -> list[np.ndarray]:
    """Random token ids of ragged lengths, clear of the special ids at the start."""
    rng = np.random.default_rng(seed)
    return [rng.integers(5, vocab, n).astype(np.int32) for n in LENGTHS]


def batches(ids: list[np.ndarray], types: bool):
    """The same requests as one padded batch and as packed rows, each with its plan."""
    requests = [Request(x, (np.arange(len(x)) > 3).astype(np.int32)) for x in ids]
    lengths = [len(x) for x in ids]
    padded = batching.place([[i] for i in range(len(ids))], len(ids), 32, lengths)
    (packed,) = planner.plan(lengths, BUCKETS, 48)
    assert packed.rows < len(ids), "the packed batch must share rows"
    for plan in (padded, packed):
        reads = batching.TEXT._replace(types=types or None)
        yield requests, plan, *batching.fill(plan, requests, reads)


def reference(hf, ids, types: bool, output: str) -> list[np.ndarray]:
    """What Hugging Face gives each text alone."""
    results = []
    for x in ids:
        extra = {"token_type_ids": torch.tensor((np.arange(len(x)) > 3)[None] * 1)} if types else {}
        with torch.no_grad():
            out = hf(input_ids=torch.tensor(x[None].astype(np.int64)), **extra)
        results.append(getattr(out, output)[0].float().numpy())
    return results


def check(folder: Path, hf_class, task: str | None = None) -> None:
    """Assert that jaxpool's numbers on a checkpoint folder are those of `hf_class`.

    task None compares hidden states; "classify", "token_classify" and the other head tasks
    compare the logits of the checkpoint's head, before any activation.
    """
    checkpoint = open_checkpoint(folder)
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    hf = hf_class.from_pretrained(folder).eval()
    arch, types = checkpoint.arch, checkpoint.arch.token_types > 1
    ids = texts(arch.vocab)
    output = "logits" if task else "last_hidden_state"
    wanted = reference(hf, ids, types, output)
    tolerance = LOGIT_TOLERANCE if task else HIDDEN_TOLERANCE
    steps = checkpoint.head_steps if task else None
    assert not task or checkpoint.head.task == task
    padded, packed = batches(ids, types)
    # A head sits on the hidden states of its family's own test: one batch is enough for it.
    forms = [packed] if task else [padded, packed]
    for unroll, (requests, plan, batch, controls) in enumerate(forms):
        got = run(params, batch, controls, arch, steps, bool(unroll))
        compare(plan, got, requests, wanted, steps, tolerance)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    requests, plan, batch, controls = packed
    got = run(half, batch, controls, arch, steps, False)
    near(plan, got, requests, wanted, steps)
    check_round_trip(checkpoint, params, folder, hf_class, wanted, types, output)


def check_packed(
    folder: Path, wanted: list[np.ndarray], task: str | None = None, types: bool = False, ids=None
) -> None:
    """Assert one thing alone: packed in float32, a folder gives the numbers `wanted` of `texts`.

    Cheaper than `check`, for heads and switches of families whose forward `check` covers.
    """
    checkpoint = open_checkpoint(folder)
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    assert not task or checkpoint.head.task == task
    steps = checkpoint.head_steps if task else None
    ids = texts(checkpoint.arch.vocab) if ids is None else ids
    _, (requests, plan, batch, controls) = batches(ids, types)
    got = run(params, batch, controls, checkpoint.arch, steps, False)
    tolerance = LOGIT_TOLERANCE if task else HIDDEN_TOLERANCE
    compare(plan, got, requests, wanted, steps, tolerance)


def check_half(folder: Path, wanted: list[np.ndarray]) -> None:
    """Assert that hidden states, packed and unrolled in bfloat16, are near those of `texts`."""
    checkpoint = open_checkpoint(folder)
    params = checkpoint.read(jnp.bfloat16, lambda path, array: jnp.asarray(array))
    _, (requests, plan, batch, controls) = batches(texts(checkpoint.arch.vocab), False)
    got = run(params, batch, controls, checkpoint.arch, None, True)
    near(plan, got, requests, wanted, None)


def run(params, batch, controls, arch, steps, unroll: bool) -> np.ndarray:
    """Hidden states, or the output of a chain of steps."""
    if steps is None:
        compute = jax.jit(forward, static_argnums=(2, 3))
        return np.asarray(compute(params, batch, arch, unroll), np.float32)
    return np.asarray(
        jax.jit(programs, static_argnums=(3, 4))(params, batch, controls, arch, (steps,))[0]
    )


def pooled(steps) -> bool:
    """Whether the output is one vector a text."""
    from jaxpool.heads.steps import is_pooled

    return steps is not None and is_pooled(steps)


def compare(plan, got, requests, wanted, steps, tolerance: float) -> None:
    """Every result of a batch against its reference."""
    seen = set()
    for index, vector in batching.unpack(plan, got, requests, pooled(steps)):
        seen.add(index)
        assert vector.shape == wanted[index].shape
        np.testing.assert_allclose(vector, wanted[index], rtol=0, atol=tolerance)
        assert cosine(vector, wanted[index]) >= 0.99999
    assert seen == set(range(len(wanted)))


def near(plan, got, requests, wanted, steps) -> None:
    """Every result of a batch in bfloat16 against its reference."""
    for index, vector in batching.unpack(plan, got, requests, pooled(steps)):
        assert cosine(vector, wanted[index]) >= BF16_COSINE


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two arrays as one long vector."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def check_round_trip(checkpoint, params, folder, hf_class, wanted, types, output) -> None:
    """HF folder -> ours -> HF folder: equal tensors, and equal outputs from torch."""
    target = folder.parent / f"{folder.name}-exported"
    target.mkdir(exist_ok=True)
    checkpoint.write(params, target)
    before, after = (load_file(f / "model.safetensors") for f in (folder, target))
    assert after.keys() <= before.keys()
    for name in before.keys() - after.keys():  # what was left out is a copy of what was not
        assert any(np.array_equal(before[name], tensor) for tensor in after.values()), name
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and np.array_equal(tensor, before[name]), name
    again = hf_class.from_pretrained(target).eval()
    for a, b in zip(
        reference(again, texts(checkpoint.arch.vocab), types, output), wanted, strict=True
    ):
        np.testing.assert_array_equal(a, b)
