"""jina-clip-v2 against its authors' math in plain torch.

The tower follows eva_model.py and rope_embeddings.py of jinaai/jina-clip-implementation, the pixels
its transform.py (torchvision's), the text hf_model.py: transformers' JinaEmbeddingsV3Model with the
adapter merged, and the mean of all tokens.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import conv2d, layer_norm, linear, silu
from transformers import JinaEmbeddingsV3Config, JinaEmbeddingsV3Model

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError
from tests.images.photos import photo
from tests.images.test_towers import near, of, vectors
from tests.parity import save_random
from tests.small import add_tokenizer

DIM, LAYERS, HEADS, SIDE, PATCH = 32, 2, 4, 60, 14
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TASKS, RANK, ALPHA = ["retrieval.query", "text-matching"], 3, 2
TEXT = dict(
    vocab_size=30522,
    hidden_size=DIM,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    type_vocab_size=1,
    pad_token_id=0,
)
VISION = dict(
    embed_dim=DIM,
    width=DIM,
    image_size=SIDE,
    patch_size=PATCH,
    layers=LAYERS,
    head_width=DIM // HEADS,
    mlp_ratio=1.5,
    ls_init_value=None,
    qkv_bias=True,
    post_norm=False,
    rope_embeddings=True,
    pt_hw_seq_len=3,
    intp_freq=True,
    naive_swiglu=True,
    subln=True,
    proj_type=None,
)
IMAGES = [photo(*size, seed) for seed, size in enumerate(((131, 83), (61, 97), (64, 203)))]
TEXTS = ["A cat", "two dogs, and more of them"]


def tower() -> dict[str, torch.Tensor]:
    """Random tensors of the vision tower."""
    grid, mlp = SIDE // PATCH, int(DIM * 1.5)
    shapes = {
        "cls_token": (1, 1, DIM),
        "pos_embed": (1, grid**2 + 1, DIM),
        "patch_embed.proj.weight": (DIM, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (DIM,),
    }
    for name in ("norm", *(f"blocks.{i}.norm{j}" for i in range(LAYERS) for j in (1, 2))):
        shapes |= {f"{name}.weight": (DIM,), f"{name}.bias": (DIM,)}
    for i in range(LAYERS):
        block = f"blocks.{i}"
        shapes |= {f"{block}.attn.{x}_proj.weight": (DIM, DIM) for x in "qkv"}
        shapes |= {f"{block}.attn.{x}_bias": (DIM,) for x in "qv"}
        shapes |= {f"{block}.attn.{x}.weight": (DIM,) for x in ("inner_attn_ln",)}
        shapes |= {f"{block}.attn.inner_attn_ln.bias": (DIM,)}
        shapes |= {f"{block}.attn.proj.weight": (DIM, DIM), f"{block}.attn.proj.bias": (DIM,)}
        for name, size in {"w1": (mlp, DIM), "w2": (mlp, DIM), "w3": (DIM, mlp)}.items():
            shapes |= {f"{block}.mlp.{name}.weight": size, f"{block}.mlp.{name}.bias": size[:1]}
        shapes |= {f"{block}.mlp.ffn_ln.{x}": (mlp,) for x in ("weight", "bias")}
    torch.manual_seed(1)
    made = {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}
    return {
        n: 1 + t if "norm" in n and "weight" in n or "ln.w" in n else t for n, t in made.items()
    }


def adapted(tensors: dict) -> tuple[dict, dict]:
    """Kernels and tables as torch's parametrizations keep them; those with the first merged."""
    written, merged = {}, {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            written[name] = merged[name] = tensor
            continue
        (rows, columns), table = tensor.shape, "embeddings" in name
        sizes = ((rows, RANK), (RANK, columns)) if table else ((RANK, columns), (rows, RANK))
        a, b = (0.2 * torch.randn(len(TASKS), *size) for size in sizes)
        stem = name.removesuffix("weight") + "parametrizations.weight"
        written |= {f"{stem}.original": tensor, f"{stem}.0.lora_A": a, f"{stem}.0.lora_B": b}
        merged[name] = tensor + (a[0] @ b[0] if table else b[0] @ a[0]) * (ALPHA / RANK)
    return written, merged


def save(folder):
    """Write the folder as it is published; the text model with its adapter, the tower's tensors."""
    config = JinaEmbeddingsV3Config(
        **TEXT, rope_parameters={"rope_type": "default", "rope_theta": 55.0}
    )
    save_random(JinaEmbeddingsV3Model, config, folder)
    torch.manual_seed(2)
    written, merged = adapted(load_file(folder / "model.safetensors"))
    seen = tower()
    tensors = {f"text_model.transformer.roberta.{n}": t for n, t in written.items()}
    tensors |= {f"vision_model.{n}": t for n, t in seen.items()} | {"logit_scale": torch.ones(())}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    lora = dict(lora_adaptations=TASKS, lora_rank=RANK, lora_alpha=ALPHA)
    prompts = {"task_instructions": {"retrieval.query": "Find it: "}}
    fields = dict(
        model_type="jina_clip",
        architectures=["JinaCLIPModel"],
        add_projections=False,
        matryoshka_dimensions=[8, 16, 32],
        text_config=dict(
            embed_dim=DIM,
            default_lora_task="retrieval.query",
            hf_model_name_or_path="jinaai/jina-embeddings-v3",
            hf_model_config_kwargs=TEXT | lora | prompts | {"rotary_emb_base": 55.0},
            pooler_type="mean_pooler",
            proj_type=None,
        ),
        vision_config=VISION,
    )
    (folder / "config.json").write_text(json.dumps(fields))
    facts = {"size": SIDE, "mean": MEAN, "std": STD, "resize_mode": "shortest"}
    facts |= {"image_processor_type": "JinaCLIPImageProcessor", "interpolation": "bicubic"}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    add_tokenizer(folder)
    text = JinaEmbeddingsV3Model.from_pretrained(None, config=config, state_dict=merged).eval()
    return text, seen


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder, and what `save` gives."""
    folder = tmp_path_factory.mktemp("jina-clip") / "jina-clip-v2"
    return folder, *save(folder)


@pytest.fixture(scope="module")
def llm(made):
    return jaxpool.LLM(str(made[0]), data_parallel_size=1)


def pixels(image: Image.Image) -> np.ndarray:
    """The shorter side resized, as torchvision does it, and its rounded middle."""
    width, height = image.size
    long = int(SIDE * max(width, height) / min(width, height))
    size = (SIDE, long) if width <= height else (long, SIDE)
    resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    top, left = (round((side - SIDE) / 2.0) for side in resized.shape[:2])
    return resized[top : top + SIDE, left : left + SIDE]


def turned(x: torch.Tensor) -> torch.Tensor:
    """Heads `[N, T, H]` of patches with neighbouring features turned by rows, then by columns."""
    grid, half = SIDE // PATCH, x.shape[-1] // 2
    rates = 1.0 / 10000 ** (torch.arange(0, half, 2) / half)
    angles = (torch.arange(grid) / grid * 3)[:, None] * rates
    angles = angles.repeat_interleave(2, dim=-1)
    rows = angles[:, None, :].expand(grid, grid, half)
    columns = angles[None, :, :].expand(grid, grid, half)
    both = torch.cat([rows, columns], -1).reshape(grid**2, -1)
    a, b = x[..., 0::2], x[..., 1::2]
    return x * both.cos() + torch.stack([-b, a], -1).flatten(-2) * both.sin()


@torch.no_grad()
def seen(image: Image.Image, t: dict) -> np.ndarray:
    """The class token of a picture."""

    def norm(name, x):
        weight, bias = t[f"{name}.weight"], t[f"{name}.bias"]
        return layer_norm(x, weight.shape, weight, bias, 1e-6)

    def dense(name, x):
        return linear(x, t[f"{name}.weight"], t[f"{name}.bias"])

    values = torch.tensor(pixels(image) / 255.0, dtype=torch.float32)
    values = ((values - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]
    x = conv2d(values, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat([t["cls_token"][0], x[0].flatten(1).T]) + t["pos_embed"][0]
    for i in range(LAYERS):
        block = f"blocks.{i}"
        y = norm(f"{block}.norm1", x)
        biases = {"q": t[f"{block}.attn.q_bias"], "k": None, "v": t[f"{block}.attn.v_bias"]}
        q, k, v = (linear(y, t[f"{block}.attn.{n}_proj.weight"], b) for n, b in biases.items())
        q, k, v = (z.view(len(x), HEADS, -1).transpose(0, 1) for z in (q, k, v))
        q, k = (torch.cat([z[:, :1], turned(z[:, 1:])], 1) for z in (q, k))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        mixed = (weights @ v).transpose(0, 1).reshape(len(x), -1)
        x = x + dense(f"{block}.attn.proj", norm(f"{block}.attn.inner_attn_ln", mixed))
        y = norm(f"{block}.norm2", x)
        hidden = silu(dense(f"{block}.mlp.w1", y)) * dense(f"{block}.mlp.w2", y)
        x = x + dense(f"{block}.mlp.w3", norm(f"{block}.mlp.ffn_ln", hidden))
    return norm("norm", x)[0].numpy()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def test_pixels(llm):
    processor = llm.model.processor
    assert any(int(SIDE * max(i.size) / min(i.size)) % 2 for i in IMAGES)  # a middle of halves
    for image in IMAGES:
        np.testing.assert_array_equal(processor.pixels(image), pixels(image))
    assert (processor.mean, processor.std) == (MEAN, STD)


def test_a_mix_of_texts_and_pictures(made, llm):
    """Texts with the adapter that the configuration names, pictures whose tower has rows."""
    _, text, tensors = made
    found = vectors(llm, [of(IMAGES[0]), *TEXTS, *map(of, IMAGES[1:])])
    for image, vector in zip(IMAGES, (found[0], *found[3:]), strict=True):
        near(vector, unit(seen(image, tensors)))
    for tokens, vector in zip(llm.model.tokenizer(TEXTS), found[1:3], strict=True):
        ids = torch.tensor(tokens.ids[None].astype(np.int64))
        with torch.no_grad():
            near(vector, unit(text(ids).last_hidden_state[0].mean(0).numpy()))
    short = vectors(llm, [of(IMAGES[0])], pooling_params=jaxpool.PoolingParams(dimensions=16))[0]
    near(short, unit(found[0][:16]))
    assert dict(llm.model.prompts) == {"retrieval.query": "Find it: "}


@pytest.mark.slow
def test_exported(made, llm, tmp_path):
    """The adapter is merged into what is written, which gives the same."""
    llm.model.export(tmp_path / "out")
    again = jaxpool.LLM(str(tmp_path / "out"), data_parallel_size=1)
    for a, b in zip(vectors(again, TEXTS), vectors(llm, TEXTS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "part,changes,message",
    [
        ("vision_config", {"naive_swiglu": False}, "must have {'naive_swiglu': True}, found"),
        ("text_config", {"hf_model_name_or_path": "a/b"}, "jina-embeddings-v3'}, found"),
        (
            "text_config",
            {"default_lora_task": "poetry"},
            "default_lora_task 'poetry' is not one of",
        ),
        ("text_config", {"embed_dim": 8}, "wanted one width and no projections"),
    ],
)
def test_what_is_not_known(made, tmp_path, part, changes, message):
    for file in made[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((made[0] / "config.json").read_text())
    config[part] |= changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)
