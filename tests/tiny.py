"""Tiny random models on a mesh of virtual devices."""

import jax

from jaxpool.engine.engine import Engine, EngineOptions
from jaxpool.engine.executor import Executor
from jaxpool.engine.programs import Programs
from jaxpool.engine.sharding import make_mesh, tree_shardings
from jaxpool.heads.steps import Normalize, Pool
from jaxpool.nn import params
from jaxpool.nn.arch import Arch
from jaxpool.tasks.task import Task

EMBED = Task("embed", (Pool(("mean",)), Normalize()))
TOKENS = Task("token_embed", (Normalize(),))
LIMIT = 48
SIZES = {"vocab": 99, "layers": 2, "dim": 32, "heads": 8, "kv_heads": 8, "head_dim": 4}
BERT = Arch(**SIZES, mlp_dim=64, positions=64, embed_norm=True, max_length=64)


def engine(
    arch: Arch = BERT, data: int = 1, model: int = 1, dtype: str = "float32", **options
) -> Engine:
    """An engine of random weights (std 0.1) on `data` x `model` devices."""
    mesh, leaves = make_mesh(model, data), params.abstract(arch)
    shardings = tree_shardings(leaves, mesh)
    weights = jax.device_put(params.init(jax.random.key(0), leaves, 0.1, dtype), shardings)
    programs = Programs((EMBED, TOKENS))
    return Engine(Executor(weights, arch, mesh), LIMIT, EngineOptions(**options), programs)
