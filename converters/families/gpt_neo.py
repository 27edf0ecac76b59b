"""GPT-Neo, StarCoder (GPTBigCode) and the first GPT: GPT-2 but for windows, heads or norms."""

from dataclasses import replace

from converters.families import gpt2
from converters.families.decoder import BUFFERS, OLD_HEADS, arch, fused_names, score
from converters.family import activation, attention, dense, norm
from jaxpool.nn.arch import Arch


def switches(config, act: str, **changes) -> Arch:
    """GPT-2's switches, changed as a family asks."""
    facts = dict(
        norm="layer",
        rotary=(),
        positions=config.max_position_embeddings,
        gated=False,
        activation=act,
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True),
        max_length=config.max_position_embeddings,
    )
    return arch(config, **(facts | changes))


def neo_arch(config) -> Arch:
    """GPT-Neo: windows in every other layer, scores as they are, no biases on what attends."""
    near = config.window_size - 1
    return switches(
        config,
        activation(config.activation_function),
        mlp_dim=config.intermediate_size or 4 * config.hidden_size,
        windows=tuple(near if kind == "local" else 0 for kind in config.attention_layers),
        attention_scale=1.0,
        qkv_bias=False,
    )


def big_code_arch(config) -> Arch:
    """GPTBigCode: one key head for all queries."""
    return switches(
        config,
        activation(config.activation_function),
        kv_heads=1 if config.multi_query else config.n_head,
        mlp_dim=config.n_inner or 4 * config.n_embd,
        attention_scale=0.0 if config.scale_attn_weights else 1.0,
    )


def first_arch(config) -> Arch:
    """The first GPT: norms after the branches; its "gelu" is the approximation by tanh."""
    act = "gelu_tanh" if config.afn == "gelu" else activation(config.afn)
    return switches(config, act, placement="post", final_norm=False, mlp_dim=4 * config.n_embd)


LAYER = "h.{L}"
ENDS = (
    "embed.token.embedding wte.weight V E\nembed.position.embedding wpe.weight P E\n"
    + norm("layers.attention_norm", f"{LAYER}.ln_1")
    + norm("layers.mlp_norm", f"{LAYER}.ln_2")
    + norm("norm", "ln_f")
    + dense("layers.mlp.up", f"{LAYER}.mlp.c_fc", "F D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.c_proj", "D F")
)
NEO = attention("h.{L}.attn.attention", "q_proj", "k_proj", "v_proj", "out_proj")
BIG_CODE_NAMES = ENDS + fused_names(f"{LAYER}.attn.c_attn", f"{LAYER}.attn.c_proj")

GPT_NEO = replace(
    gpt2.GPT2,
    name="GPTNeo",
    arch=neo_arch,
    names=ENDS + NEO,
    heads=OLD_HEADS,
    ignored=(BUFFERS, r"^lm_head\."),
    examples=("EleutherAI/gpt-neo-125m", "Muennighoff/SGPT-125M-weightedmean-nli-bitfit"),
)
GPT_BIGCODE = replace(
    GPT_NEO,
    name="GPTBigCode",
    arch=big_code_arch,
    names=BIG_CODE_NAMES,
    examples=("bigcode/gpt_bigcode-santacoder",),
)
OPENAI_GPT = replace(
    GPT_NEO,
    name="OpenAIGPT",
    arch=first_arch,
    names=gpt2.NAMES.replace("wte", "tokens_embed").replace("wpe", "positions_embed"),
    heads={"SequenceClassification": score()},
    examples=("openai-community/openai-gpt",),
)
