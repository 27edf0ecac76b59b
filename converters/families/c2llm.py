"""C2LLM and CGE, CodeFuse's models of code: a learned vector attends to what Qwen2 makes of it."""

from converters.families.decoder import decoder_names, family
from converters.families.qwen import qwen2_arch
from converters.family import Family, Head, dense, norm, require
from converters.report import CheckpointError
from jaxpool.heads.pools import Seed
from jaxpool.nn.arch import Arch

NEEDED = ("embedding_method", "keep_max_layer", "pma_ln", "pma_norm_mode", "pma_num_heads")


def c2llm_arch(config) -> Arch:
    """Qwen2, whose last layer is pooled."""
    if lacking := [name for name in NEEDED if not hasattr(config, name)]:
        raise CheckpointError(f"config.json: {config.architectures[0]} needs {lacking}")
    if config.keep_max_layer not in (-1, config.num_hidden_layers):
        raise CheckpointError(
            f"config.json: keep_max_layer must be the last layer, {config.num_hidden_layers}, "
            f"found {config.keep_max_layer}"
        )
    require(config, embedding_method="pma", pma_ln=True, pma_norm_mode="post_normal")
    return qwen2_arch(config)


def _seed(config, arch: Arch) -> tuple:
    return (Seed(inputs=arch.dim, outputs=config.compress_dim, heads=config.pma_num_heads),)


BLOCK = "mha_pma.mab"
SEED = (
    "heads.seed.embedding mha_pma.S 1 1 O\n"
    + dense("heads.seed.query", f"{BLOCK}.fc_q", "(N H) O")
    + dense("heads.seed.key", f"{BLOCK}.fc_k", "(N H) D")
    + dense("heads.seed.value", f"{BLOCK}.fc_v", "(N H) D")
    + dense("heads.seed.out", f"{BLOCK}.fc_o")
    + norm("heads.seed.attention_norm", f"{BLOCK}.ln0", "O")
    + norm("heads.seed.out_norm", f"{BLOCK}.ln1", "O")
)
C2LLM: Family = family(
    "C2LLM",
    c2llm_arch,
    decoder_names(),
    prefix="plm_model.model.",
    heads={"Model": Head("embed", _seed, SEED, sizes={"compress_dim": f"{BLOCK}.fc_o.weight"})},
    ignored=(r"^plm_model\.lm_head\.",),
    config="qwen2",
    special_tokens=False,
    examples=("codefuse-ai/C2LLM-0.5B", "codefuse-ai/CodeFuse-CGE-Large"),
)
