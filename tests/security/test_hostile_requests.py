"""Requests that ask for more than there is."""

import asyncio
import json

import pytest

from jaxpool import LLM
from jaxpool.errors import RequestError
from serving.app import create_app
from serving.config import Options
from serving.lines import call
from serving.middleware import METHODS, Observe
from serving.service import Service

CHUNKED = {"pooling_type": "MEAN", "enable_chunked_processing": True}


@pytest.fixture(scope="module", params=[{}, CHUNKED], ids=["plain", "chunked"])
def llm(request, good):
    return LLM(str(good), pooler_config=request.param or None)


@pytest.mark.parametrize("options", [{}, {"max_length": -1}, {"max_length": 32}])
def test_padding_ends_at_the_model_s_length(llm, options):
    asked = {"padding": "max_length"} | options
    (output,) = llm.embed(["hello"], tokenization_kwargs=asked, use_tqdm=False)
    assert len(output.prompt_token_ids) == llm.model.max_length == 32


@pytest.mark.parametrize("length", [33, 10**9, 10**18])
def test_padding_beyond_it_is_refused(llm, length):
    for asked in ({"padding": "max_length", "max_length": length}, {"pad_prompt_tokens": length}):
        with pytest.raises(RequestError, match=f"padding to {length} tokens"):
            llm.embed(["hello"], tokenization_kwargs=asked, use_tqdm=False)


@pytest.mark.parametrize("token", [10_000_000_000, -10_000_000_000, 2**63, -1, 20, 2**31])
def test_a_token_that_is_none_is_named_as_it_was_sent(llm, token):
    with pytest.raises(RequestError, match=f"Token id {token} is out of vocabulary"):
        llm.embed([[5, token]], use_tqdm=False)


@pytest.mark.parametrize("method", ["BREW", "x" * 1000, "", "PROPFIND"])
def test_a_method_that_http_does_not_have_makes_no_label(good, method):
    service = Service(Options(models=[str(good)]))
    observe = Observe(None, service, service.options)
    observe._record({"path": f"/{method}", "method": method}, 405, 0.1)
    labels = 'handler="none",method="other",status="4xx"'
    assert labels in service.metrics.text().decode() and method not in METHODS


@pytest.mark.parametrize(
    "path", ["/wp-login.php", "/v1/embeddings/../x", "/" + "y" * 3000, "/page/z"]
)
@pytest.mark.parametrize("model", ["no such model", "m" * 5000, 'a",b="c'])
def test_an_unknown_route_or_model_makes_no_label(good, path, model):
    service = Service(Options(models=[str(good)], served_model_name=["tiny"]))
    app = create_app(service.options, service)
    for url in (path, "/v1/embeddings", "/pooling", "/rerank"):
        body = json.dumps({"model": model, "input": "a", "query": "a", "documents": ["b"]})
        status, _ = asyncio.run(call(app, "POST", url, body.encode(), "id"))
        assert 400 <= status < 600
    text = service.metrics.text().decode()
    assert path not in text and model not in text
    assert (
        ('handler="none"' in text) == (path != "/page/z") == ('handler="/page/{name}"' not in text)
    )
