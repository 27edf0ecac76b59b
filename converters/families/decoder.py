"""What decoder families share: switches read from a configuration, name tables, heads."""

from collections.abc import Callable, Mapping
from typing import Any

from converters.family import Family, Head, activation, dense, norm, sizes
from converters.rotary import reach, rotary
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch

LAST = Pool(("lasttoken",))
EPSILONS = ("rms_norm_eps", "norm_epsilon", "layer_norm_eps", "norm_eps", "layer_norm_epsilon")
IGNORED = (r"rotary_emb\.inv_freq$", r"^lm_head\.", r"^output\.weight$")


def arch(config, **switches) -> Arch:
    """Llama's switches (pre-norm, RMS, gated, rotary, causal), changed as a family asks."""
    bias = bool(_known(config, "attention_bias"))
    kinds = sizes(config) | dict(
        norm="rms",
        placement="pre",
        final_norm=True,
        causal=causal(config),
        windows=windows(config),
        qkv_bias=bias,
        out_bias=bias,
        gated=True,
        mlp_bias=bool(_known(config, "mlp_bias")),
    )
    fields = {  # those that not all configurations have
        "activation": lambda: _activation(config),
        "mlp_dim": lambda: config.intermediate_size,
        "norm_eps": lambda: next(getattr(config, x) for x in EPSILONS if config.knows(x)),
        "rotary": lambda: (rotary(config),),
        "max_length": lambda: reach(config),
    }
    read = {name: field() for name, field in fields.items() if name not in switches}
    return Arch(**(kinds | read | switches))


def _activation(config) -> str:
    """SwiGLU's where the class has no such field."""
    names = (_known(config, name) for name in ("hidden_act", "hidden_activation"))
    return activation(next(filter(None, names), "silu"))


def _known(config, name: str) -> Any:
    """A field that not all configurations have: elsewhere it is a stray key, without effect."""
    return getattr(config, name) if config.knows(name) else None


def causal(config) -> bool:
    """Whether tokens see their past alone: some checkpoints say no, others by their name."""
    if any("Bidirectional" in name for name in config.architectures or ()):
        return False
    if _known(config, "use_bidirectional_attention"):
        return False
    return getattr(config, "is_causal", True) is not False


def windows(config) -> tuple[int, ...]:
    """The reach of every layer's window; empty where all are unlimited.

    transformers' windows count the token itself, but for a decoder made bidirectional by
    `is_causal: false`, where they count the tokens on each side.
    """
    window = _known(config, "sliding_window")
    if not window:
        return ()
    both = getattr(config, "is_causal", True) is False
    kinds = _known(config, "layer_types") or ["sliding_attention"] * config.num_hidden_layers
    side = window if both else window - 1
    if side < 1:
        raise ValueError(f"config.json: sliding_window must be at least 2, found {window}")
    sides = tuple(side if kind == "sliding_attention" else 0 for kind in kinds)
    return sides if any(sides) else ()


ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
MLP = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def attention_names(layer: str, qk_norm: str = "H") -> str:
    """Separate projections; `qk_norm` are the axes of the norms' scales, with N for heads."""
    axes = {"query": "(N H) D", "key": "(K H) D", "value": "(K H) D", "out": "D (N H)"}
    lines = [
        dense(f"layers.attention.{ours}", f"{layer}.{name}", axes[ours])
        for ours, name in ATTENTION.items()
    ]
    for ours, name, heads in (("query", "q_norm", "N"), ("key", "k_norm", "K")):
        scale = f"layers.attention.{ours}_norm.scale {layer}.{name}.weight"
        lines.append(f"{scale} {qk_norm.replace('N', heads)}\n")
    return "".join(lines)


def fused_names(qkv: str, out: str) -> str:
    """Queries, key and value of each kv head in turn, in one tensor."""
    return dense("layers.attention.{query,key,value}", qkv, "(K [G|1|1] H) D") + dense(
        "layers.attention.out", out, "D (N H)"
    )


def mlp_names(layer: str, names: Mapping[str, str] = MLP) -> str:
    """Separate projections of a gated MLP."""
    return "".join(
        dense(f"layers.mlp.{ours}", f"{layer}.{name}", "D F" if ours == "down" else "F D")
        for ours, name in names.items()
    )


def fused_mlp_names(layer: str) -> str:
    """A gated MLP whose gate and up projections share a tensor."""
    gate_up = dense("layers.mlp.{gate,up}", f"{layer}.gate_up_proj", "(F|F) D")
    return gate_up + dense("layers.mlp.down", f"{layer}.down_proj", "D F")


def expert_names(layer: str, gate: str, up: str, down: str) -> str:
    """Experts with gated MLPs, and the router that picks some of them for each token."""
    names = {"gate": (gate, "W D"), "up": (up, "W D"), "down": (down, "D W")}
    lines = [
        f"layers.experts.{ours}.kernel {layer}.experts.{{X}}.{name}.weight {axes}\n"
        for ours, (name, axes) in names.items()
    ]
    return f"layers.experts.router.kernel {layer}.gate.weight X D\n" + "".join(lines)


def shared_expert_names(layer: str) -> str:
    """An MLP beside the experts."""
    names = mlp_names(layer).replace("layers.mlp.", "layers.experts.shared.")
    return names.replace(" F D", " e D").replace(" D F", " D e")


def decoder_names(
    attention: str = attention_names("layers.{L}.self_attn"),
    mlp: str = mlp_names("layers.{L}.mlp"),
    norms: Mapping[str, str] = NORMS,
    embedding: str = "embed_tokens",
    last_norm: str = "norm",
    layer: str = "layers.{L}",
) -> str:
    """The table of a decoder without learned positions, of its parts."""
    ends = f"embed.token.embedding {embedding}.weight V E\n" + norm("norm", last_norm)
    inner = "".join(norm(f"layers.{ours}", f"{layer}.{name}") for ours, name in norms.items())
    return ends + attention + mlp + inner


def score(pool: Pool = LAST) -> Head:
    """Logits of the last token by a linear layer, with a bias where the file has one."""
    return Head(
        "classify",
        lambda config, arch: (pool, Dense("score", arch.dim, config.num_labels)),
        dense("heads.score", "score"),
        optional_bias=True,
    )


def token_score(name: str = "score") -> Head:
    """Logits of every token by a linear layer."""
    return Head(
        "token_classify",
        lambda config, arch: (Dense("score", arch.dim, config.num_labels),),
        dense("heads.score", name),
        optional_bias=True,
    )


def reward(outputs: int, **defaults) -> Head:
    """Linear, ReLU, linear on every token; `defaults` are fields of `PoolerConfig`."""
    return Head(
        "token_classify",
        lambda config, arch: (
            Dense("score", arch.dim, arch.dim, activation="relu"),
            Dense("value", arch.dim, outputs),
        ),
        dense("heads.score", "score.0") + dense("heads.value", "score.2"),
        defaults,
    )


def value(name: str, **defaults) -> Head:
    """A value of every token by a linear layer without bias."""
    return Head(
        "token_classify",
        lambda config, arch: (Dense("value", arch.dim, 1, bias=False),),
        dense("heads.value", name),
        defaults,
    )


# Word weights of a decoder that was trained as a masked language model.
MASKED_LM = Head(
    "sparse",
    lambda config, arch: (Dense("decoder", arch.dim, arch.vocab, bias=False),),
    "heads.decoder.kernel lm_head.weight=model.embed_tokens.weight O I\n",
)
HEADS = {"SequenceClassification": score(), "TokenClassification": token_score()}
# What families of the years before Llama share.
OLD_HEADS = HEADS | {"TokenClassification": token_score("classifier")}
BUFFERS = r"\.att(n|ention)\.(attention\.)?(masked_)?bias$"  # masks that old files carry
BOTH_NORMS = "{attention_norm,mlp_norm}"  # one norm before both branches
WIDE = {"up": "dense_h_to_4h", "down": "dense_4h_to_h"}
# Qwen2.5-Math-RM: a value a token; -PRM: two labels, read after each step (<extra_0>).
REWARD = reward(1, use_activation=False)
PROCESS_REWARD = reward(2, tok_pooling_type="STEP", step_tag_id=151651)


def _projector(config, arch) -> tuple:
    inner = arch.dim // 2
    return (
        Dense("projector", arch.dim, inner, bias=False, activation="relu"),
        Dense("projection", inner, config.embedding_size, bias=False),
    )


# jina-reranker-v3 compares the projections of special tokens that end its query and documents.
PROJECTOR = Head(
    "token_embed",
    _projector,
    dense("heads.projector", "projector.0") + dense("heads.projection", "projector.2"),
    sizes={"embedding_size": "projector.2.weight"},
)


def family(name: str, switches, names: str | Callable[[Any], str] = "", **changes) -> Family:
    """A family whose files are Llama's but for what is given."""
    facts = dict(prefix="model.", heads=HEADS, ignored=IGNORED, pool="lasttoken")
    return Family(name, switches, names or decoder_names(), **(facts | changes))
