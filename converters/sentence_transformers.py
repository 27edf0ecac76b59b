"""sentence-transformers folders: modules.json and the files beside it, as steps of a head."""

from dataclasses import dataclass, field
from pathlib import Path

from converters.family import dense, norm
from converters.files import read_json
from converters.rows import CheckpointError
from jaxpool.heads import Dense, Norm, Pool

MODES = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "lasttoken",
}
LENGTH_FILES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TORCH_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "Mish": "mish",
}


@dataclass(frozen=True)
class Pipeline:
    """What a sentence-transformers folder says beyond the transformer.

    steps: pooling and what follows, without the final normalization; routes: the steps of each
    input type of a Router; folders: where the steps with parameters lie, and their tables.
    """

    steps: tuple = ()
    normalize: bool = False
    folders: dict[str, str] = field(default_factory=dict)
    transformer: str = ""
    max_length: int | None = None
    lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    include_prompt: bool = True
    routes: tuple[tuple[str, tuple], ...] = ()

    @property
    def pools(self) -> bool:
        """Whether the files say how tokens become one vector."""
        return any(isinstance(step, Pool) for step in self.steps)


def read_pipeline(folder: Path) -> Pipeline | None:
    """The pipeline of a folder; None without modules.json. Unknown modules are refused by name."""
    modules = read_json(folder / "modules.json", default=[])
    if not modules:
        return None
    facts: dict = {"steps": (), "folders": {}}
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind not in MODULES:
            raise CheckpointError(
                f"modules.json: unknown module {module['type']}; known: {sorted(MODULES)}"
            )
        MODULES[kind](folder, module.get("path", ""), facts)
    return Pipeline(**facts, **_prompts(folder))


def _transformer(folder: Path, path: str, facts: dict) -> None:
    facts["transformer"] = path
    names = [f"sentence_{family.replace('-', '_')}_config.json" for family in LENGTH_FILES]
    names += [f"sentence_{family}_config.json" for family in LENGTH_FILES]
    for name in names:
        config = read_json(folder / path / name, default={})
        if config:
            facts["max_length"] = config.get("max_seq_length")
            facts["lower_case"] = bool(config.get("do_lower_case", False))
            return


def _pooling(folder: Path, path: str, facts: dict) -> None:
    config = read_json(folder / path / "config.json")
    mode = config.get("pooling_mode")
    if mode is None:
        kinds = [ours for name, ours in MODES.items() if config.get(f"pooling_mode_{name}")]
    else:
        names = [mode] if isinstance(mode, str) else mode
        kinds = [MODES.get(name, name) for name in names]
    unknown = [kind for kind in kinds if kind not in MODES.values()]
    if unknown or not kinds:
        raise CheckpointError(f"{path}/config.json: unknown pooling mode {unknown or config}")
    facts["steps"] += (Pool(tuple(kinds)),)
    facts["include_prompt"] = config.get("include_prompt", True)


def _dense(folder: Path, path: str, facts: dict) -> None:
    config = read_json(folder / path / "config.json")
    act = config.get("activation_function", "torch.nn.modules.activation.Tanh").rsplit(".", 1)[-1]
    if act not in TORCH_ACTIVATIONS:
        raise CheckpointError(f"{path}/config.json: unknown activation {act}")
    facts["folders"][path] = dense(f"heads.{path}", "linear", "O I")
    facts["steps"] += (
        Dense(
            path,
            config["in_features"],
            config["out_features"],
            bias=config.get("bias", True),
            activation=TORCH_ACTIVATIONS[act],
        ),
    )


def _layer_norm(folder: Path, path: str, facts: dict) -> None:
    config = read_json(folder / path / "config.json")
    facts["folders"][path] = norm(f"heads.{path}", "norm", "O")
    facts["steps"] += (Norm(path, config["dimension"], 1e-5),)


def _normalize(folder: Path, path: str, facts: dict) -> None:
    facts["normalize"] = True


MODULES = {
    "Transformer": _transformer,
    "Pooling": _pooling,
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
}


def _prompts(folder: Path) -> dict:
    config = read_json(folder / "config_sentence_transformers.json", default={})
    return {
        "prompts": config.get("prompts") or {},
        "default_prompt": config.get("default_prompt_name"),
    }
