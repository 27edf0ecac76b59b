"""A checkpoint's tasks: which pool, head and activation serve embed, classify, ..."""

from dataclasses import dataclass

from jaxpool.heads import Activate, Calibrate, Cut, Normalize, Pool, is_pooled
from jaxpool.requests import PoolerConfig

POOLINGS = {
    "CLS": "cls",
    "LAST": "lasttoken",
    "MEAN": "mean",
    "MAX": "max",
    "WEIGHTEDMEAN": "weightedmean",
    "MEAN_SQRT": "mean_sqrt_len_tokens",
}


@dataclass(frozen=True)
class Task:
    """One thing a model can do: the steps after the forward, and whether they activate."""

    name: str
    steps: tuple
    activate: bool = True

    @property
    def pooled(self) -> bool:
        """One result a text, rather than one a token."""
        return is_pooled(self.steps)


def pooling(config: PoolerConfig, steps: tuple) -> tuple:
    """`steps` with the pooling a user asked for, or unchanged."""
    if config.seq_pooling_type is None:
        return steps
    kind = config.seq_pooling_type.upper()
    if kind not in POOLINGS:
        raise ValueError(f"unknown seq_pooling_type {kind!r}; known: {sorted(POOLINGS)}")
    wanted = Pool((POOLINGS[kind],))
    return tuple(wanted if isinstance(step, Pool) else step for step in steps)


def embedding_tasks(steps: tuple, activate: bool, config: PoolerConfig) -> dict[str, Task]:
    """`embed` and `token_embed` of a chain of pooling and dense steps."""
    if config.use_activation is not None:
        activate = config.use_activation
    embed = (*pooling(config, steps), Cut(), Normalize())
    tokens = tuple(step for step in embed if not isinstance(step, Pool))
    return {
        "embed": Task("embed", embed, activate),
        "token_embed": Task("token_embed", tokens, activate),
    }


def classification_task(
    name: str, steps: tuple, activation: str, config: PoolerConfig
) -> dict[str, Task]:
    """`classify` or `token_classify` of a chain that ends in logits."""
    activate = True if config.use_activation is None else config.use_activation
    calibrate = ()
    if config.logit_mean is not None or config.logit_sigma is not None:
        calibrate = (Calibrate(config.logit_mean or 0.0, config.logit_sigma or 1.0),)
    return {name: Task(name, (*steps, *calibrate, Activate(activation)), activate)}
