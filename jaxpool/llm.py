"""`LLM`: vLLM's offline API over `Model`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxpool import offline
from jaxpool.loading import load
from jaxpool.loras import LoRARequest, Loras
from jaxpool.scoring.decisions import prepare_decisions
from jaxpool.scoring.pairs import prepare_hybrid, prepare_scores
from jaxpool.scoring.spans import prepare_spans
from jaxpool.scoring.zero_shot import TEMPLATE, Labels, prepare_labels
from jaxpool.tasks import outputs
from jaxpool.tasks.entities import Entity
from jaxpool.tasks.model_config import ModelConfig
from jaxpool.tasks.pooling_params import PoolerConfig, PoolingParams, with_adapter, with_task
from jaxpool.tasks.task import REQUIRED, several
from jaxpool.tokenizing import Tokenizers
from jaxpool.vllm_options import engine_options

GENERATIVE = (
    "LLM.{}() is only supported for generative models. Try passing `--runner generate` to use the "
    "model as a generative model."
)


class LLM:
    """Runs a pooling model offline.

    The arguments are those of `jaxpool.load`. `trust_remote_code` is accepted and never runs
    code from a checkpoint: every architecture is implemented here. tokenizer_workers: processes
    that tokenize calls of thousands of texts.
    """

    def __init__(
        self,
        model: str,
        *,
        runner: str = "auto",
        convert: str = "auto",
        dtype: str = "auto",
        max_model_len: int | None = None,
        hf_overrides: Mapping | Callable | None = None,
        pooler_config: PoolerConfig | Mapping | None = None,
        chat_template: str | None = None,
        lora_path: str | None = None,
        add_eos_token: bool | None = None,
        default_prompt_name: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        tensor_parallel_size: int = 1,
        data_parallel_size: int | None = None,
        served_model_name: str | None = None,
        tokenizer_workers: int = 0,
        **engine: Any,
    ):
        asked = engine_options(engine) | {
            "runner": runner,
            "convert": convert,
            "revision": revision,
            "max_model_len": max_model_len,
            "hf_overrides": hf_overrides,
            "pooler_config": pooler_config,
            "chat_template": chat_template,
            "lora_path": lora_path,
            "add_eos_token": add_eos_token,
            "default_prompt_name": default_prompt_name,
            "tensor_parallel_size": tensor_parallel_size,
            "data_parallel_size": data_parallel_size,
            "served_model_name": served_model_name,
        }
        self.model = load(model, dtype=dtype, **asked)
        self.tokenizers = Tokenizers(tokenizer_workers, model, asked)
        self.loras = Loras(self.model.executor, self.model.checkpoint, self.model.options)

    @property
    def model_config(self) -> ModelConfig:
        """The facts of the model: embedding_size, max_model_len, pooler_config, ..."""
        return self.model.model_config

    @property
    def supported_tasks(self) -> tuple[str, ...]:
        """What the model can do."""
        return tuple(self.model.tasks)

    @property
    def pooling_task(self) -> str:
        """The task the model serves by default."""
        return self.model.pooling_task

    def get_tokenizer(self):
        """The tokenizer as a transformers object."""
        return self.model.tokenizer.transformers

    def encode(
        self,
        prompts: Any,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        *,
        use_tqdm: bool | Callable = True,
        pooling_task: str | Sequence[str] | None = None,
        **options: Any,
    ) -> list[outputs.PoolingRequestOutput]:
        """Run a task by name on prompts: a text, token ids, a prompt dict, or a list of them.

        Several tasks, `["embed", "sparse"]` or "embed&sparse", share one forward; `outputs.data` is
        then a dict by their names. A name may end in a precision: "embed:int8".

        options: tokenization_kwargs; prompt, prompt_name (an instruction before each text);
        input_type ("query", "document", ...: the prompt, adapter or path for that use); task (an
        adapter of the model's own, such as jina-embeddings-v3's "retrieval.query"); precision
        ("int8", "uint8", "binary" or "ubinary", see `jaxpool.heads.precision`).
        """
        if pooling_task is None:
            raise ValueError(REQUIRED)
        return self._call(outputs.POOLING, pooling_task, prompts, pooling_params, use_tqdm, options)

    def embed(
        self,
        prompts: Any,
        *,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        use_tqdm: bool | Callable = True,
        **options: Any,
    ) -> list[outputs.EmbeddingRequestOutput] | list[outputs.PoolingRequestOutput]:
        """Embed prompts; a model of token vectors answers with a matrix each.

        No prompt of the checkpoint is applied unless `prompt_name`, `prompt` or `input_type` asks
        (see `encode`), or the model was loaded with a `default_prompt_name`.
        """
        if self.pooling_task == "token_embed":
            return self.encode(
                prompts, pooling_params, use_tqdm=use_tqdm, pooling_task="token_embed", **options
            )
        return self._call(outputs.EMBEDDING, "embed", prompts, pooling_params, use_tqdm, options)

    def classify(
        self,
        prompts: Any,
        *,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        labels: Sequence[str] | None = None,
        hypothesis_template: str = TEMPLATE,
        multi_label: bool = False,
        use_tqdm: bool | Callable = True,
        **options: Any,
    ) -> list[outputs.ClassificationRequestOutput]:
        """Class probabilities of prompts (see `encode`).

        labels: classes of the call's own, in the order of their probabilities (see
        `jaxpool.scoring.zero_shot`), in hypothesis_template, the sentence about a label;
        multi_label: each label is true or not by itself.
        """
        if labels is not None:
            asked = Labels(labels, hypothesis_template, multi_label)
            return self._labelled(prompts, asked, pooling_params, use_tqdm, **options)
        return self._call(
            outputs.CLASSIFICATION, "classify", prompts, pooling_params, use_tqdm, options
        )

    def score(
        self,
        data_1: str | Mapping | Sequence[str | Mapping],
        data_2: str | Mapping | Sequence[str | Mapping],
        /,
        *,
        use_tqdm: bool | Callable = True,
        pooling_params: PoolingParams | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        lora_request: LoRARequest | None = None,
    ) -> list[outputs.ScoringRequestOutput]:
        """Scores of text pairs: one query with one or several documents, or N with N.

        A classifier of one label reads both texts (through its score template, if it has one),
        embeddings are compared by cosine, token vectors by MaxSim. In models of pictures a text may
        be `{"content": [{"type": "image_url", "image_url": {"url": ...}}]}`.
        `pooling_params.extra_kwargs`: see `scoring.call.Options`.
        """
        params = self._adapted(pooling_params, lora_request)
        scoring = prepare_scores(
            self.model, data_1, data_2, params, tokenization_kwargs, chat_template
        )
        scores = offline.score(self.model, scoring, use_tqdm)
        return [
            outputs.ScoringRequestOutput(
                pair.request_id, outputs.ScoringOutput(float(score)), pair.tokens
            )
            for pair, score in zip(scoring.pairs, scores, strict=True)
        ]

    def compute_score(
        self,
        pairs: tuple[str, str] | Sequence[tuple[str, str]],
        *,
        weights: Sequence[float] = (1, 1, 1),
        use_tqdm: bool | Callable = True,
        tokenization_kwargs: Mapping[str, Any] | None = None,
    ) -> dict[str, float] | dict[str, list[float]]:
        """Scores of pairs by dense, sparse and token vectors, and their weighted means (BGE-M3).

        weights: of the dense, sparse and token vectors' scores. Keys are FlagEmbedding's ("dense",
        "colbert+sparse+dense", ...); a number each for a single pair, else a list.
        """
        single = isinstance(pairs[0], str)
        params = PoolingParams(extra_kwargs={"weights": weights})
        queries, documents = zip(*([pairs] if single else pairs), strict=True)
        scoring = prepare_hybrid(self.model, queries, documents, params, tokenization_kwargs)
        scores = offline.score(self.model, scoring, use_tqdm)
        return {name: one.tolist()[0] if single else one.tolist() for name, one in scores.items()}

    def reward(
        self,
        prompts: Any,
        *,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        use_tqdm: bool | Callable = True,
        **options: Any,
    ) -> list[outputs.PoolingRequestOutput]:
        """Rewards of prompts: one each, or one a token or step, as the model was made."""
        return self.encode(
            prompts, pooling_params, use_tqdm=use_tqdm, pooling_task="reward", **options
        )

    def decide(self, request: Any, *, use_tqdm: bool | Callable = True) -> Any:
        """Answers to typed questions about a state, by their names; a list of them for a list.

        request: `{"state": ..., "questions": {name: question}}` or its JSON: `tasks.decisions`.
        """
        given = request if isinstance(request, list) else [request]
        answers = offline.score(self.model, prepare_decisions(self.model, given), use_tqdm)
        return answers if given is request else answers[0]

    def entities(
        self,
        texts: str | Sequence[str],
        *,
        labels: Sequence[str] | None = None,
        use_tqdm: bool | Callable = True,
        **options: Any,
    ) -> list[list[Entity]]:
        """The labelled spans of each text.

        labels: kinds of the call's own, for models of spans; options: threshold, nested (see
        `scoring.spans`). Of token classifiers: aggregation, ignore (see `tasks.entities`).
        """
        if labels is not None:
            return offline.score(
                self.model, prepare_spans(self.model, texts, labels, **options), use_tqdm
            )
        return offline.entities(self.model, texts, use_tqdm, **options)

    def generate(self, *args: Any, **kwargs: Any):
        """Not for pooling models: raises."""
        raise ValueError(GENERATIVE.format("generate"))

    def chat(self, *args: Any, **kwargs: Any):
        """Not for pooling models: raises."""
        raise ValueError(GENERATIVE.format("chat"))

    def _call(
        self, kind: outputs.Kind, name: str | Sequence[str], prompts, params, use_tqdm, options
    ) -> list:
        precision = options.pop("precision", "float32")
        task = self.model.select(name, options.get("input_type"), precision)
        params = with_task(params, options.pop("task", None))
        params = self._adapted(params, options.pop("lora_request", None))
        requests, results = offline.run(
            self.model, task, prompts, params, use_tqdm, self.tokenizers.prepare, **options
        )
        if isinstance(task, tuple):
            names = several(name)
            results = [dict(zip(names, parts, strict=True)) for parts in results]
        return [
            kind.request(str(i), kind.output(result), request.ids, late_chunking=request.chunks)
            for i, (result, request) in enumerate(zip(results, requests, strict=True))
        ]

    def _adapted(self, params, asked: LoRARequest | Sequence[LoRARequest | None] | None):
        """A call's parameters with the adapter of all prompts, or that of each."""
        if asked is None:
            return params
        if isinstance(asked, LoRARequest):
            return with_adapter(params, self.loras.slot(asked))
        numbers = [0 if one is None else self.loras.slot(one) for one in asked]
        return with_adapter(params, numbers)

    def _labelled(
        self, texts, labels: Labels, params, use_tqdm, tokenization_kwargs=None, lora_request=None
    ) -> list[outputs.ClassificationRequestOutput]:
        params = self._adapted(params, lora_request)
        scoring = prepare_labels(self.model, texts, labels, params, tokenization_kwargs)
        each = zip(scoring.pairs, offline.score(self.model, scoring, use_tqdm), strict=True)
        made, wrap = outputs.ClassificationRequestOutput, outputs.CLASSIFICATION.output
        return [made(one.request_id, wrap(probs), one.tokens) for one, probs in each]
