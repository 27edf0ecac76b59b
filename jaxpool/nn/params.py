"""The parameter tree: which leaves an `Arch` has, their axes and shapes.

Dimension letters, the same in axis strings, einsums and comments everywhere:

    B rows of a batch    T query tokens    S key tokens      R requests (segments) of a row
    V vocabulary         E embedding       D model           L layers
    N query heads        K key/value heads G = N / K         H head features
    F mlp features       P positions       Y token types     U relative-position buckets
    Z task types         q adapters        r adapter rank
    I inputs, O outputs of a dense step of a head
    f features of a bottleneck
    A taps, Q input features of a group of a convolution
    X experts            W expert features   M layers with experts, J layers with a dense MLP
    C layers with wide heads; inside that: n key/value heads, k features of each
    d features that a layer reads of the embeddings
    a layers that attend b layers with another mixer; inside that: p features,
    n key heads, k features of a key, x value heads, y features of a value,
    i states of a feature, g features that make its steps; inside latent heads: g features that make
    queries, i that make keys and values, o features of a head that turn, z that do not
    d features of a narrow layer, e of its MLPs that come before the last; of g blocks of kernels:
    d model features, e heads, i mlp features; z heads that convolve; beside experts, e MLP features
    h height, w width, c channels of a patch of pixels, v frames, s registers before them
    l tables of positions, of columns and of rows
    m features of joined patches, u of a merger's hidden layer, t of a text; j deep mergers
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path, tree_map, tree_unflatten

from jaxpool.nn import mlp_axes
from jaxpool.nn.arch import PARTS, Arch, Disentangled, Merger
from jaxpool.nn.leaf import Leaf, is_leaf


def axes(arch: Arch) -> dict:
    """The nested dict of axis strings of an architecture, with Flax leaf names."""
    norm = {"scale": "D"} if arch.norm_scale else {}
    norm |= {"bias": "D"} if arch.norm != "rms" and arch.norm_bias else {}
    tree = {"embed": _embed_axes(arch, norm)}
    if arch.layers:
        tree["layers"] = _layer_axes(arch, norm)
    if arch.adapters:
        tree = _adapted(tree)
    if arch.final_norm:
        tree["norm"] = norm if arch.final_norm_bias else {x: norm[x] for x in norm if x != "bias"}
    if arch.merger:
        tree["merger"] = _merger_axes(arch.merger, arch.merger.norm, norm)
        if arch.merger.deep:
            deep = _merger_axes(arch.merger, "joined", norm)
            tree["deep"] = tree_map(lambda axes: f"j {axes}", deep)
    if arch.reread_dim:
        tree["read_norm"] = dict.fromkeys(norm, "d")
    if arch.relative_buckets and not arch.relative_layers:
        tree["relative"] = {"embedding": "U N"}
    return tree | (_disentangled_axes(arch.disentangled, norm) if arch.disentangled else {})


def _merger_axes(facts: Merger, place: str, norm: dict) -> dict:
    kernels = {"up": "m u", "down": "u t"} if facts.hidden else {"out": "m t"}
    tree = {
        name: {"kernel": axes} | ({"bias": axes[-1]} if facts.bias else {})
        for name, axes in kernels.items()
    }
    letter = {"patch": "D", "joined": "m"}.get(place)
    tree |= {"norm": dict.fromkeys(norm, letter)} if letter else {}
    mark = {"embedding": "m" if facts.merged_marks else "t"}
    return tree | ({"marks": dict.fromkeys(facts.marks, mark)} if facts.marks else {})


def _disentangled_axes(facts: Disentangled, norm: dict) -> dict:
    tree: dict = {}
    if facts.span:
        tree["relative"] = {"embedding": "U D"} | ({"norm": norm} if facts.normed else {})
    if facts.taps:
        tree["conv"] = {"kernel": "A Q D", "bias": "D", "norm": norm}
    return tree


def _adapted(tree: dict, name: str = "") -> dict:
    """A tree with an adapter, a product of rank r, beside every kernel and table of tokens."""
    if name == "mlps":  # several in one leaf
        return tree
    if "kernel" in tree:
        layer, inputs, outputs = _split(tree["kernel"], 2 if name in ("out", "weights") else 1)
        return tree | {
            "lora_a": {"kernel": f"{layer} q {inputs} r"},
            "lora_b": {"kernel": f"{layer} q r {outputs}"},
        }
    if name in ("token", "type"):
        rows, features = tree["embedding"].split()
        return tree | {
            "lora_a": {"embedding": f"q {rows} r"},
            "lora_b": {"kernel": f"q r {features}"},
        }
    return {k: _adapted(v, k) if isinstance(v, dict) else v for k, v in tree.items()}


def _split(axes: str, count: int) -> tuple[str, str, str]:
    """The layer, the `count` inputs and the outputs of a kernel's axes."""
    layer, *rest = axes.split()
    return layer, " ".join(rest[:count]), " ".join(rest[count:])


def _embed_axes(arch: Arch, norm: dict) -> dict:
    embed: dict = {"token": {"embedding": "V E"}} if arch.start is None else {}
    if arch.patches:
        bias = {"bias": "E"} if arch.patches.bias else {}
        frames = "v " if arch.patches.frames > 1 else ""
        embed = {"patch": {"kernel": f"{frames}h w c E"} | bias}
        embed |= {"class": {"embedding": "E"}} if arch.patches.class_token else {}
        embed |= {"register": {"embedding": "s E"}} if arch.patches.registers else {}
    if arch.positions:
        crossed = arch.patches is not None and arch.patches.crossed
        embed["position"] = {"embedding": "l P E" if crossed else "P E"}
    if arch.token_types:
        embed["type"] = {"embedding": "Y E"}
    if arch.task_types:
        embed["task"] = {"embedding": "Z E"}
    if arch.embed_norm:
        embed["norm"] = {name: "E" for name in norm}
    if arch.narrow:
        return _wide_axes(embed, norm)
    if arch.embed_project or (arch.embed_dim and arch.embed_dim != arch.dim):
        embed["project"] = {"kernel": "E D", "bias": "D"}
    return embed


def _wide_axes(embed: dict, norm: dict) -> dict:
    """The same where words and their neighbours are projected before all else is added."""
    for name in ("position", "type"):
        embed[name] = {"embedding": embed[name]["embedding"].replace("E", "D")}
    return embed | {"norm": norm, "project": {"kernel": "A E D", "bias": "D"}}


def _layer_axes(arch: Arch, norm: dict) -> dict:
    if arch.narrow:
        return tree_map(lambda axes: f"L {axes}", arch.narrow.axes(norm))

    attention, cross = _attention_axes(arch, norm)
    norms = ["attention_norm", "mlp_norm"]
    if arch.placement == "sandwich":
        norms += ["attention_post_norm", "mlp_post_norm"]
    if arch.inner_attention_norm:
        norms.append("attention_inner_norm")
    if arch.bottleneck:
        norms.append("bottleneck_norm")
    norms += [f"{name}_norm" for name in cross]
    tree: dict = {name: norm for name in norms} | cross
    if arch.layer_scale:
        tree |= {"attention_gain": {"scale": "D"}, "mlp_gain": {"scale": "D"}}
    if arch.bottleneck:
        tree["bottleneck"] = {"up": _dense("D f", "f"), "down": _dense("f D", "D")}
    if arch.relative_layers:
        tree["relative"] = {"embedding": "U N"}
    if arch.reread_dim:
        tree["reread"] = {name: {"kernel": "D d"} for name in ("read", "gate")}
        tree["reread"] |= {"down": {"kernel": "d D"}, "norm": norm, "gain": {"scale": ""}}
    tree = tree_map(lambda axes: f"L {axes}", tree)
    return tree | _part_axes(arch, attention)


def _dense(kernel: str, bias: str, biased: bool = True) -> dict:
    """A dense layer, which may have a bias."""
    return {"kernel": kernel} | ({"bias": bias} if biased else {})


def _attention_axes(arch: Arch, norm: dict) -> tuple[dict, dict]:
    """Attention, and that of a decoder to the output of its encoder."""
    attention = {
        "query": _dense("D N H", "N H", arch.qkv_bias),
        "key": _dense("D K H", "K H", arch.qkv_bias and arch.key_bias),
        "value": _dense("D K H", "K H", arch.qkv_bias),
        "out": _dense("N H D", "D", arch.out_bias),
    }
    cross = {} if arch.start is None or arch.merged else {"cross": dict(attention)}
    if arch.latent:
        attention = arch.latent.axes(arch.out_bias)
    if arch.sinks:
        attention["sink"] = {"bias": "N"}
    if arch.attention_groups > 1:
        attention |= {
            n: mlp_axes.blocks(attention[n], "g d e H") for n in ("query", "key", "value")
        }
    if arch.gated_attention:
        attention["gate"] = _dense("D N H", "N H", arch.qkv_bias)
    if arch.value_taps:
        attention["conv"] = {"kernel": "A K"}
    if arch.leading:
        letters = {"query": "N", "key": "K", "value": "K"}
        attention["leading"] = {
            name: _dense(f"D {x} H", f"{x} H", arch.qkv_bias) for name, x in letters.items()
        }
    if arch.spans:
        attention["spans"] = arch.spans.axes()
    if arch.disentangled:
        attention |= _position_axes(arch.disentangled)
    return attention | _head_norms(arch, norm), cross


def _head_norms(arch: Arch, norm: dict) -> dict:
    """The norms of queries and keys, and of what the heads give."""
    tree = {"sub_norm": dict.fromkeys(norm, "N H")} if arch.sub_norm else {}
    if arch.qk_norm != "none":
        names = ("scale", "bias") if arch.qk_norm in ("layer", "head_layer") else ("scale",)
        for norm_name, heads in (("query_norm", "N "), ("key_norm", "K ")):
            features = "H" if arch.qk_norm in ("head", "head_layer", "values") else f"{heads}H"
            tree[norm_name] = dict.fromkeys(names, features)
    return tree


def _part_axes(arch: Arch, attention: dict) -> dict:
    """The parts that not all layers have, stacked over those that do."""
    wide = tree_map(lambda axes: axes.replace("K", "n").replace("H", "k"), attention)
    parts = {"attention": attention, "wide": wide, "mlp": mlp_axes.dense(arch)}
    if arch.mixer:
        parts["mixer"] = arch.mixer.axes()
    if arch.experts:
        parts["experts"] = mlp_axes.experts(arch)
    numbers, made = arch.numbers(), {}
    for letter, name in PARTS.items():
        if numbers[letter] and parts[name]:
            count = "L" if len(numbers[letter]) == arch.layers else letter
            made[name] = tree_map(lambda axes, x=count: f"{x} {axes}", parts[name])
    return made


def _position_axes(facts: Disentangled) -> dict:
    """The products of disentangled attention that differ from those of contents."""
    made = {"key": _dense("D K H", "K H", facts.key_bias)}
    if facts.content_to_position and not facts.shared:
        made["position_key"] = _dense("D N H", "N H", facts.key_bias)
    if facts.position_to_content and not facts.shared:
        made["position_query"] = _dense("D N H", "N H", True)
    return made


def abstract(arch: Arch) -> dict:
    """The tree of `Leaf`s (axes and shapes) that `forward` wants for `arch`."""
    sizes = arch.sizes()
    tree = tree_map(lambda a: Leaf(a, tuple(sizes[x] for x in a.split())), axes(arch))
    beside = {"vision": arch.vision, "decoder": arch.decoder}
    return tree | {name: abstract(part) for name, part in beside.items() if part}


def init(key: jax.Array, leaves: dict, std: float = 0.02, dtype=jnp.float32) -> dict:
    """Random parameters for a tree of `Leaf`s: kernels and tables N(0, std), scales 1, biases 0."""
    paths, treedef = tree_flatten_with_path(leaves, is_leaf=is_leaf)
    fills = {"scale": jnp.ones, "bias": jnp.zeros}

    def make(key, path, leaf):
        fill = fills.get(path[-1].key)
        return fill(leaf.shape, dtype) if fill else std * jax.random.normal(key, leaf.shape, dtype)

    keys = jax.random.split(key, len(paths))
    return tree_unflatten(treedef, [make(k, *p) for k, p in zip(keys, paths, strict=True)])


def flatten(tree: dict) -> dict[str, Any]:
    """{"layers.mlp.up.kernel": leaf} of a nested dict of arrays, `Leaf`s or strings."""
    items = tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    return {keystr(path, simple=True, separator="."): leaf for path, leaf in items}


def unflatten(flat: Mapping[str, Any]) -> dict:
    """The nested dict of dotted names: the inverse of `flatten`."""
    tree: dict = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


def count(tree: dict) -> int:
    """The number of parameters in a tree of arrays or `Leaf`s."""
    return sum(math.prod(leaf.shape) for leaf in flatten(tree).values())
