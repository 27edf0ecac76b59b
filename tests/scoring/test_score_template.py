"""The prompts of published rerankers, character by character."""

import pytest
from transformers import AutoTokenizer

from jaxpool.scoring.template import load_template, shipped_templates

JUDGE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: {}\n<Query>: Q\n<Document>: D<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
WEB = "Given a web search query, retrieve relevant passages that answer the query"
PROMPTS = {
    "basic": "Query: Q\nDocument: D",
    "bge-reranker-v2-gemma": (
        "A: Q\nB: D\nGiven a query A and a passage B, determine whether the passage contains an "
        "answer to the query by providing a prediction of either 'Yes' or 'No'."
    ),
    "bge-reranker-v2.5-gemma2-lightweight": (
        "A: Q\nB: D\nPredict whether passage B contains an answer to query A."
    ),
    "jina-reranker-m0": "**Document**:\nD\n**Query**:\nQ",
    "jina-reranker-v3": (
        "<|im_start|>system\nYou are a search relevance expert who can determine a ranking of the "
        "passages based on how relevant they are to the query. If the query is a question, how "
        "relevant a passage is depends on how well it answers the question. If not, try to analyze "
        "the intent of the query and assess how well each passage satisfies the intent. If an "
        "instruction is provided, you should follow the instruction when determining the ranking."
        "<|im_end|>\n<|im_start|>user\nI will provide you with 1 passages, each indicated by a "
        "numerical identifier. Rank the passages based on their relevance to query: Q\n"
        '<passage id="0">\nD<|embed_token|>\n</passage>\n<query>\nQ<|rerank_token|>\n</query>'
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
    "kalm-reranker": (
        "<bos><start_of_turn>user\nJudge whether the Document meets the requirements based on the "
        'Query and the Instruct provided. Note that the answer can only be "yes" or "no".\n\n'
        "<Instruct>: Given a query, retrieve documents that answer the query.\n"
        "<Query>: Q<end_of_turn>\n<start_of_turn>model\n\n\n\n"
    ),
    "mxbai_rerank_v2": (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\nquery: Q\ndocument: D\nYou are a search relevance expert "
        "who evaluates how well documents match search queries. For each query-document pair, "
        "carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "nemotron-rerank": "question:Q \n \n passage:D",
    "nemotron-vl-rerank": "question:Q \n \n passage:D",
    "qwen3_reranker": JUDGE.format(WEB),
    "qwen3_vl_reranker": (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n<Instruct>: Given a search query, retrieve relevant candidates that "
        "answer the query.<Query>:Q\n<Document>:D<|im_end|>\n<|im_start|>assistant\n"
    ),
    "zerank2": (
        "<|im_start|>system\nQ<|im_end|>\n<|im_start|>user\nD<|im_end|>\n<|im_start|>assistant\n"
    ),
}


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return AutoTokenizer.from_pretrained(minilm.model.checkpoint.folder)


def _render(tokenizer, given, **options):
    return load_template(given).render(tokenizer, [("Q", "D")], options)[0]


def test_every_shipped_template_is_known():
    assert shipped_templates() == sorted(PROMPTS)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(tokenizer, name):
    assert _render(tokenizer, name) == PROMPTS[name]


@pytest.mark.parametrize(
    "name", ["mxbai_rerank_v2", "qwen3_reranker", "zerank2", "bge-reranker-v2-gemma"]
)
def test_prompts_that_their_caller_wrote_are_not_wrapped_again(tokenizer, name):
    """vLLM's older examples write the template around the query and the document by hand."""
    written = PROMPTS[name]
    for cut in (written.rindex("D"), len(written) - 1):
        pair = (written[:cut], written[cut:])
        bare = ("A query of its own", "and a document")
        template = load_template(name)
        done, made = template.render(tokenizer, [pair, bare], {})
        assert done == written and made == template.render(tokenizer, [bare], {})[0] != written


def test_instructions(tokenizer):
    for name in ("instruction", "instruct"):
        assert _render(tokenizer, "qwen3_reranker", **{name: "I"}) == JUDGE.format("I")
    told = _render(tokenizer, "zerank2", instruction="I")
    told_mxbai = _render(tokenizer, "mxbai_rerank_v2", instruction="I")
    assert "<|im_start|>user\ninstruction: I\nquery: Q\ndocument: D\nYou" in told_mxbai
    assert "system\n<query>Q</query>\n<instruction>I</instruction><|im_end|>" in told


def test_texts_and_files(tokenizer, tmp_path):
    text = "{{ messages[1].content }} for {{ messages[0].content }}{{ sep_token }}\n"
    (tmp_path / "own.jinja").write_text(text)
    for given in (text, str(tmp_path / "own.jinja")):
        assert _render(tokenizer, given) == "D for Q[SEP]"


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("no_such_template", {}, "'no_such_template' is neither a file.*'basic'"),
        ("{{ messages[0].content }}\n{% if %}", {}, "^chat template, line 2: Expected an exp"),
        ("{{ raise_exception('no documents') }}", {}, "^chat template: no documents$"),
        ("{{ messages[0].content }}", {"tools": []}, r"reserved keys.*\['tools'\]"),
    ],
)
def test_errors(tokenizer, given, options, message):
    with pytest.raises(ValueError, match=message):
        _render(tokenizer, given, **options)
