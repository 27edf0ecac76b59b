"""The modules of sentence-transformers, each as what it adds to a pipeline: `MODULES`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from converters.family import dense, norm
from converters.files.folder import read_json
from converters.files.paths import inside
from converters.files.tensors import open_tensors
from converters.heads.transformer_module import TransformerModule, read_transformer
from converters.report import CheckpointError
from jaxpool.heads.precision import Squash
from jaxpool.heads.steps import Activate, Dense, Norm, Normalize, Pool, PoolSlots
from jaxpool.heads.words import WeighedPool, WordsPresent
from jaxpool.nn.primitives import TORCH_ACTIVATIONS

MODES = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "lasttoken",
}
SPLADE = {"relu": 1, "log1p_relu": 2}  # how often SpladePooling takes the logarithm of 1 + x
STATIC = "SparseStaticEmbedding"


@dataclass
class Draft:
    """A pipeline while its modules are read.

    chains: the steps so far, of each route (None before any Router); folders: where steps with
    parameters lie, and the table of their tensors; weights: the WordWeights that the next
    pooling divides by; answers: the tokens whose logits are a score (the first of two against it);
    sparse: the steps to word weights (from a masked language model's logits), of each route.
    """

    chains: dict[str | None, tuple] = field(default_factory=lambda: {None: ()})
    folders: dict[str, str] = field(default_factory=dict)
    transformer: str = ""
    model_type: str | None = None
    module: TransformerModule = TransformerModule()
    include_prompt: bool = True
    default_route: str | None = None
    weights: tuple[str, int] | None = None
    sparse: dict[str | None, tuple] = field(default_factory=dict)
    answers: tuple[int, ...] = ()

    def add(self, step) -> None:
        """Append a step to every route."""
        self.chains = {route: (*steps, step) for route, steps in self.chains.items()}


def read_module(folder: Path, kind: str, path: str, draft: Draft) -> None:
    """Add the module of class `kind` at `path` to a draft; unknown ones are refused by name."""
    name = kind.rsplit(".", 1)[-1]
    if name not in MODULES:
        raise CheckpointError(f"modules.json: unknown module {kind}; known: {sorted(MODULES)}")
    MODULES[name](folder, path, draft)


def _transformer(folder: Path, path: str, draft: Draft) -> None:
    draft.transformer, draft.module = path, read_transformer(folder / path)


def _towers(folder: Path, path: str, draft: Draft) -> None:
    draft.transformer = path  # with a head of its own


def _static(folder: Path, path: str, draft: Draft) -> None:
    draft.transformer, draft.model_type = path, "model2vec"
    draft.add(Pool(("mean",)))


def _pooling(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "config.json")
    mode = config.get("pooling_mode")
    if mode is None:
        kinds = [ours for name, ours in MODES.items() if config.get(f"pooling_mode_{name}")]
    else:
        names = [mode] if isinstance(mode, str) else mode
        kinds = [MODES.get(name, name) for name in names]
    unknown = [kind for kind in kinds if kind not in MODES.values()]
    if unknown:
        raise CheckpointError(f"{path}/config.json: unknown pooling mode {unknown}")
    pools = tuple(kinds or ("mean",))  # what sentence-transformers does where no mode is named
    draft.add(WeighedPool(pools, *draft.weights) if draft.weights else Pool(pools))
    draft.include_prompt = config.get("include_prompt") is not False


def _dense(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "config.json")
    act = config.get("activation_function", "torch.nn.modules.activation.Tanh") or "Identity"
    act = act.rsplit(".", 1)[-1]
    if act not in TORCH_ACTIVATIONS:
        raise CheckpointError(f"{path}/config.json: unknown activation {act}")
    pooled = all(any(isinstance(s, Pool) for s in chain) for chain in draft.chains.values())
    if pooled and config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise CheckpointError(f"{path}/config.json: a Dense of tokens must come before Pooling")
    step = Dense(
        path,
        config["in_features"],
        config["out_features"],
        bias=config.get("bias", True),
        activation=TORCH_ACTIVATIONS[act],
        residual=config.get("use_residual", False),
    )
    skip = f"heads.{path}.residual.kernel residual.weight O I\n"
    draft.folders[path] = dense(f"heads.{path}", "linear", "O I") + skip
    draft.add(step)


def _layer_norm(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "config.json")
    draft.folders[path] = norm(f"heads.{path}", "norm", "O")
    draft.add(Norm(path, config["dimension"], 1e-5))


def _word_weights(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "config.json")
    draft.folders[path] = f"heads.{path}.embedding emb_layer.weight V O\n"
    draft.weights = path, len(config["vocab"])


def _router(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "router_config.json", default={})
    config = config or read_json(folder / path / "config.json")
    options, kinds = config.get("parameters", {}), config["types"]
    whole = [kind for kind in kinds.values() if kind.endswith("Transformer")]
    if whole and (len(whole) > 1 or not any(kind.endswith(STATIC) for kind in kinds.values())):
        raise CheckpointError(
            f"modules.json: a Router between whole transformers ({sorted(kinds)}) is several "
            "models: load each folder by itself"
        )
    (base,) = draft.chains.values()
    chains: dict[str | None, tuple] = {}
    sparse: dict[str | None, tuple] = {}
    for route, members in config["structure"].items():
        draft.chains, draft.sparse = {route: base}, {}
        for member in members:
            inside(folder / path, member)
            read_module(folder, kinds[member], f"{path}/{member}".lstrip("/"), draft)
        chains |= draft.chains
        if draft.sparse:
            sparse[route] = draft.sparse[None]
    draft.chains, draft.sparse = chains, sparse
    first = next(iter(chains)) if options.get("allow_empty_key", True) else None
    draft.default_route = options.get("default_route") or first


def _splade_pooling(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "config.json")
    strategy, name = (
        config.get("pooling_strategy", "max"),
        config.get("activation_function", "relu"),
    )
    if strategy not in ("max", "sum") or name not in SPLADE:
        raise CheckpointError(
            f"{path}/config.json: wanted pooling_strategy max or sum and activation_function of "
            f"{list(SPLADE)}, found {strategy} and {name}"
        )
    pool, activations = PoolSlots((strategy,)), (Activate("log1p_relu"),) * SPLADE[name]
    # The greatest comes through an increasing function: one vector is cheaper than one a token.
    draft.sparse = {None: (pool, *activations) if strategy == "max" else (*activations, pool)}


def _sparse_static(folder: Path, path: str, draft: Draft) -> None:
    (vocab,) = open_tensors(folder, path).shape("weight")
    draft.folders[path] = f"heads.{path}.embedding weight V\n"
    # sentence-transformers tokenizes without special tokens here; an empty text has nothing else.
    ends = Tokenizer.from_file(str(folder / path / "tokenizer.json")).encode("").ids
    draft.sparse = {None: (WordsPresent(("max",), path, vocab, tuple(ends)),)}


def _logit_score(folder: Path, path: str, draft: Draft) -> None:
    config = read_json(folder / path / "config.json")
    ids = (config.get("false_token_id"), config["true_token_id"])
    draft.answers = tuple(i for i in ids if i is not None)


MODULES: dict[str, Callable[[Path, str, Draft], None]] = {
    "Asym": _router,
    "CLIPModel": _towers,
    "Dense": _dense,
    "Dropout": lambda folder, path, draft: None,  # of training alone
    "FlexibleQuantizer": lambda folder, path, draft: draft.add(Squash()),
    "HierarchicalTokenPooling": lambda folder, path, draft: None,  # see `late_interaction`
    "LayerNorm": _layer_norm,
    "LogitScore": _logit_score,
    "MLMTransformer": _transformer,
    "MultiVectorMask": lambda folder, path, draft: None,  # see `late_interaction`
    "Normalize": lambda folder, path, draft: draft.add(Normalize()),
    "Pooling": _pooling,
    "Router": _router,
    STATIC: _sparse_static,
    "SpladePooling": _splade_pooling,
    "Transformer": _transformer,
    "WordWeights": _word_weights,
    "StaticEmbedding": _static,
}
