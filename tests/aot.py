"""Programs of real shapes to be compiled ahead of time, for chips that are not there."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from converters.configuration import read_config
from jaxpool.engine import joined
from jaxpool.engine.bucketing import Bucketing
from jaxpool.engine.executor import Executor
from jaxpool.engine.planner import bucket_lengths, shapes
from jaxpool.engine.sharding import leaf_sharding
from jaxpool.heads.steps import Normalize, Pool
from jaxpool.nn import params
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.kernels import backend, choose
from jaxpool.nn.leaf import is_leaf
from jaxpool.nn.records import DeltaNet, ShortConvolution


def encoder(vocab: int, layers: int, dim: int, positions: int) -> Arch:
    """BERT and XLM-R."""
    heads = dim // 64
    sizes = {"vocab": vocab, "layers": layers, "dim": dim, "heads": heads, "kv_heads": heads}
    return Arch(
        **sizes, head_dim=64, mlp_dim=4 * dim, positions=positions, token_types=1, embed_norm=True
    )


def decoder(vocab: int, layers: int, dim: int, heads: int, kv: int, head: int, mlp: int, **more):
    """Qwen3 and Gemma."""
    sizes = {"vocab": vocab, "layers": layers, "dim": dim, "heads": heads, "kv_heads": kv}
    plain = {"qkv_bias": False, "out_bias": False, "mlp_bias": False, "norm_bias": False}
    turn = {"rotary": (Rotary(1e6, head),), "causal": True, "gated": True, "activation": "silu"}
    norms = {"norm": "rms", "placement": "pre", "final_norm": True, "norm_eps": 1e-6}
    return Arch(**sizes, head_dim=head, mlp_dim=mlp, **plain, **turn, **norms, **more)


def hybrid(arch: Arch, mixer, attention: str, **more) -> Arch:
    """A decoder whose layers attend where `attention` has an "a"."""
    layers = tuple(kind == "a" for kind in attention)
    return arch.replace(mixer=mixer, attention_layers=layers, qk_norm="head", **more)


LFM2 = hybrid(
    decoder(65536, 16, 1024, 16, 8, 64, 4608), ShortConvolution(1024, 3), "ccaccaccacacacac"
)
QWEN3_5 = hybrid(
    decoder(248320, 24, 1024, 8, 2, 256, 3584),
    DeltaNet(16, 16, 128, 128, 4),
    "ddda" * 6,
    gated_attention=True,
    rotary=(Rotary(1e7, 64),),
)


def read(architecture: str, kind: str, **fields) -> Arch:
    """A model out of its config.json."""
    with TemporaryDirectory() as folder:
        fields |= {"architectures": [architecture], "model_type": kind}
        (Path(folder) / "config.json").write_text(json.dumps(fields))
        family, config = read_config(Path(folder))
    return family.arch(config)


def siglip() -> Arch:
    """The vision tower of SigLIP-so400m."""
    sizes = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27)
    sizes |= dict(num_attention_heads=16, image_size=384, patch_size=14)
    arch = read("SiglipModel", "siglip", vision_config=sizes)
    assert arch.vision is not None
    return arch.vision


def qwen3_vl_2b() -> Arch:
    """Qwen3-VL-2B, pictures among the tokens of a text."""
    turn = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
    text = dict(hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, head_dim=128)
    text |= dict(num_attention_heads=16, num_key_value_heads=8, vocab_size=151936)
    text["rope_parameters"] = turn | {"mrope_interleaved": True}
    vision = dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, patch_size=16)
    vision |= dict(out_hidden_size=2048, deepstack_visual_indexes=[5, 11, 17])
    name = "Qwen3VLForConditionalGeneration"
    return read(name, "qwen3_vl", text_config=text, vision_config=vision)


def colpali() -> Arch:
    """ColPali of PaliGemma-3B, a page of 448 pixels a side."""
    text = dict(hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, head_dim=256)
    text |= dict(num_attention_heads=8, num_key_value_heads=1, vocab_size=257216)
    vision = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27)
    vision |= dict(num_attention_heads=16, image_size=448, patch_size=14)
    parts = {"model_type": "paligemma", "text_config": text | {"model_type": "gemma"}}
    parts["vision_config"] = vision | {"model_type": "siglip_vision_model"}
    return read("ColPaliForRetrieval", "colpali", vlm_config=parts)


def moonlight() -> Arch:
    """Four layers of Moonlight-16B-A3B, the first without experts."""
    sizes = dict(vocab_size=163840, hidden_size=2048, intermediate_size=11264)
    sizes |= dict(num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=16)
    sizes |= dict(q_lora_rank=None, n_routed_experts=64, num_experts_per_tok=6, n_group=1)
    sizes |= dict(topk_group=1, n_shared_experts=2, moe_intermediate_size=1408)
    return read("DeepseekV3Model", "deepseek_v3", first_k_dense_replace=1, **sizes)


def jamba(experts: int) -> Arch:
    """One of four periods of Jamba-v0.1, of so many experts."""
    return read("JambaModel", "jamba", num_hidden_layers=8, num_experts=experts)


# name: architecture, longest text or patches of a picture, devices of the model axis
MODELS = {
    "BERT-base": (encoder(30522, 12, 768, 512), 512, 1),
    "BGE-M3": (encoder(250002, 24, 1024, 8194), 8192, 1),
    "Qwen3-Embedding-0.6B": (decoder(151669, 28, 1024, 16, 8, 128, 3072, qk_norm="head"), 8192, 1),
    "Qwen3-Embedding-8B": (decoder(151665, 36, 4096, 32, 8, 128, 12288, qk_norm="head"), 8192, 4),
    "LFM2-350M": (LFM2, 8192, 1),
    "Qwen3.5-0.8B": (QWEN3_5, 8192, 1),
    "privacy-filter": (read("OpenAIPrivacyFilterModel", "openai_privacy_filter"), 8192, 1),
    "Moonlight, 4 layers": (moonlight(), 8192, 1),
    "Jamba, 8 layers": (jamba(1), 8192, 1),
    "Jamba, 8 layers, MoE": (jamba(16), 8192, 4),
    "FNet-base": (read("FNetModel", "fnet"), 512, 1),
    "XLNet-large": (read("XLNetModel", "xlnet"), 512, 1),
    "SigLIP-so400m": (siglip(), 729, 1),
    "Qwen3-VL-2B": (qwen3_vl_2b(), 4096, 1),
    "ColPali-3B": (colpali(), 1152, 1),
    "Gemma-7B": (decoder(256000, 28, 3072, 16, 16, 256, 24576), 8192, 4),
}


def keep(file: Path, rows: list[dict], **facts: str) -> None:
    """Write the rows of models as JSON, each with the day and versions; those of others stay."""
    known = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    own = {row["model"] for row in rows}
    others = [row for row in known["rows"] if row["model"] not in own]
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    made = others + [row | {"date": day, "jax": jax.__version__, **facts} for row in rows]
    file.write_text(json.dumps({"rows": made}, indent=1) + "\n")


def abstract(arch: Arch, place) -> dict:
    """Parameters in bfloat16 that are shapes and shardings only, `place(leaf)` each."""

    def make(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=place(leaf))

    return jax.tree.map(make, params.abstract(arch), is_leaf=is_leaf)


def every_shape(model: str, bucketing: Bucketing, data: int = 1) -> list[tuple[int, int]]:
    """The `(rows, length)` of a model's programs; a picture by itself fills a row."""
    arch, longest, _ = MODELS[model]
    lengths = (longest,) if arch.patches else bucket_lengths(longest, bucketing.steps)
    return shapes(lengths, bucketing.tokens // joined.weight(arch), data)


def attention(arch: Arch, length: int) -> str:
    """The kernel that computes attention; "mixer" where that of no layer is attention."""
    return backend(arch, length) if any("mixer" not in parts for parts in arch.parts) else "mixer"


def placed(arch: Arch, platform: str) -> Arch:
    """An architecture, and the tower beside it, in bfloat16 with the kernels of a platform."""
    tower = arch.vision and placed(arch.vision, platform)
    arch = arch.replace(dtype="bfloat16", vision=tower)
    return arch.replace(kernel=choose(platform, arch))


@cache
def executor(model: str, mesh: Mesh, layers: int | None = None) -> Executor:
    """The programs of a model on a mesh, of other than its own number of `layers` if given."""
    arch, longest, _ = MODELS[model]
    arch = placed(arch.replace(max_length=longest), mesh.devices.flat[0].platform)
    if layers is not None:
        each = ("windows", "rotary_layers", "attention_layers", "expert_layers")
        cut = {name: getattr(arch, name)[:layers] for name in each}
        arch = arch.replace(layers=layers, **cut)
    weights = abstract(arch, lambda leaf: leaf_sharding(leaf, mesh))
    return Executor(weights, arch, mesh, packed=arch.patches is None)


def lower(executor: Executor, rows: int, length: int) -> jax.stages.Lowered:
    """The program from token ids, or patches, to normalized vectors."""
    kind = "lasttoken" if executor.arch.causal else "mean" if executor.arch.patches else "cls"
    steps = (Pool((kind,)), Normalize())
    return executor.lower(((steps,), rows, length))
