"""The axis strings of what each token makes of itself (letters: see `params`)."""


def dense(arch) -> dict:
    """Those of an MLP."""
    names = ("up", "gate") if arch.gated else ("up",)
    tree = {name: {"kernel": "D F"} for name in names} | {"down": {"kernel": "F D"}}
    if arch.mlp_bias:
        for name in names:
            tree[name]["bias"] = "F"
    if arch.mlp_bias if arch.down_bias is None else arch.down_bias:
        tree["down"]["bias"] = "D"
    if arch.activation == "xielu":
        tree["curve"] = {"above": "", "below": ""}
    if arch.mlp_groups > 1:
        inside = dict.fromkeys(names, "g d i") | {"down": "g i d"}
        tree = {name: blocks(part, inside[name]) for name, part in tree.items()}
    if arch.sub_norm:
        tree["sub_norm"] = dict.fromkeys(("scale", "bias")[: 1 + (arch.norm == "layer")], "F")
    return tree


def blocks(part: dict, axes: str) -> dict:
    """A dense layer whose kernel has blocks on its diagonal alone."""
    return {"blocks": axes} | {name: leaf for name, leaf in part.items() if name != "kernel"}


def experts(arch) -> dict:
    """Those of a mixture of experts."""
    facts, names = arch.mixture, ("up", "gate") if arch.gated else ("up",)
    kernels = {"router": "D X", "down": "X W D"} | dict.fromkeys(names, "X D W")
    tree: dict = {name: {"kernel": axes} for name, axes in kernels.items()}
    if facts.bias:
        for name, axes in ({"router": "X", "down": "X D"} | dict.fromkeys(names, "X W")).items():
            tree[name]["bias"] = axes
    elif arch.mlp_bias:
        # One bias on the sum of a token's experts (nomic-embed-text-v2-moe), none inside.
        tree["down"]["bias"] = "D"
    if facts.corrected:
        tree["correction"] = {"bias": "X"}
    if facts.shared:
        tree["shared"] = {name: {"kernel": "D e"} for name in names} | {"down": {"kernel": "e D"}}
    if facts.shared_gate:
        tree["shared_gate"] = {"kernel": "D"}
    return tree
