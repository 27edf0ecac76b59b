"""Equal pictures are computed once, in a call and between calls."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import jaxpool
from jaxpool import PoolingParams
from jaxpool.engine.batch import Request
from jaxpool.images.cache import Cache
from jaxpool.images.media import MediaOptions
from jaxpool.images.prepare import _patches
from jaxpool.images.processor import Processor
from jaxpool.images.resize import LongestEdge
from jaxpool.images.tilings import WholeTiles
from jaxpool.images.towers import TowerEngine
from tests.images.photos import encoded, photo, photos


def of(image) -> dict:
    return {"prompt": "", "multi_modal_data": {"image": image}}


def test_vectors_of_pictures_are_kept_between_calls(towers):
    """By content, for each task and option apart; bounded, and not to be written to."""
    options = {"data_parallel_size": 1, "mm_processor_cache_gb": 1e-5}
    model = jaxpool.load(str(towers("clip")), **options)
    image, other = photos()[:2]
    wanted = model.encode([image, other])
    before = model.picture_engine.real_tokens
    wanted_again = model.encode([other, image])
    np.testing.assert_array_equal(wanted_again, wanted[::-1])
    assert model.picture_engine.real_tokens == before
    raw = PoolingParams(use_activation=False)
    (asked,) = model.requests(model.task("embed"), [of(image)], raw)
    ((_, vector),) = model.run(model.task("embed"), [asked])
    assert np.linalg.norm(vector) != pytest.approx(1.0)
    assert model.picture_engine.real_tokens == before + model.processor.most
    prompts = [of(photo(30, 30, seed)) for seed in range(150)]
    outputs = list(model.run(model.task("embed"), model.requests(model.task("embed"), prompts)))
    outputs[-1][1][:] = 0.0
    cache = model.media.cache
    assert 0 < cache.bytes <= cache.most == int(1e-5 * 2**30)
    assert all(np.any(value) for value, _ in cache._values.values())


def test_patches_of_files_are_kept_between_calls(towers, monkeypatch):
    model = jaxpool.load(str(towers("clip")), data_parallel_size=1, mm_processor_cache_gb=0.01)
    file, calls = {"image": encoded(photo(70, 50), "PNG")}, []
    monkeypatch.setattr(type(model.processor), "pixels", counted(calls))
    first = model.encode(file)
    np.testing.assert_array_equal(model.encode([file, file])[1], first)
    assert len(calls) == 1
    model.encode(file | {"mm_processor_kwargs": {"resample": 2}})
    assert len(calls) == 2


def counted(calls: list):
    """A processor's method that notes its calls."""
    whole = Processor.pixels

    def pixels(self, image):
        calls.append(image)
        return whole(self, image)

    return pixels


def test_equal_pictures_are_computed_once(loaded):
    """By their content, in any form; a call that asks for something else of one is computed."""
    model = loaded("clip").model
    image, other = photos()[:2]
    wanted = model.encode([image, other])
    before = model.picture_engine.real_tokens
    found = model.encode([image, other, image.copy(), np.asarray(image)])
    assert model.picture_engine.real_tokens - before == 2 * model.processor.most
    np.testing.assert_allclose(found, wanted[[0, 1, 0, 0]], atol=1e-6)
    raw = PoolingParams(use_activation=False)
    params = [PoolingParams(), raw]
    prompts = [{"image": image}] * 2
    outputs = loaded("clip").embed(prompts, pooling_params=params, use_tqdm=False)
    one, two = (output.outputs.embedding for output in outputs)
    assert abs(np.linalg.norm(one) - 1) < 1e-5 < abs(np.linalg.norm(two) - 1)


def test_one_picture_with_several_queries_and_adapters(loaded):
    """Equal pictures are one only if they are asked the same."""
    picture = loaded("clip").model.processor(photos()[0])
    request = Request(np.zeros(1, np.int32), picture=picture)
    queries = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    asked = [replace(request, query=query) for query in (*queries, queries[0].copy())]
    asked += [replace(request, adapter=1), request]
    engine = TowerEngine(Asked(), Cache(1 << 20))
    for _ in range(2):  # the second time out of the cache
        results = {i: result.item() for i, result in engine.run("task", asked)}
        assert [results[i] for i in range(len(asked))] == [15.0, 51.0, 15.0, 1.0, 0.0]


class Asked:
    """An engine whose results are the sums of what requests ask for."""

    executor = SimpleNamespace(arch=SimpleNamespace(joins=False))

    def run(self, task, requests):
        for i, request in enumerate(requests):
            yield i, np.sum(0.0 if request.query is None else request.query) + request.adapter


def test_tiles_of_files_are_kept():
    """A picture in several tiles counts with all of them, and is cut once."""
    media = MediaOptions(mm_processor_cache_gb=1e-3)
    tiled = Processor(14, LongestEdge(112), tiles=WholeTiles(56))
    model = SimpleNamespace(media=media, processor=tiled)
    prompt = SimpleNamespace(processing=None)
    file = encoded(photo(70, 90), "PNG")
    first = _patches(model, prompt, file)
    assert _patches(model, prompt, file) is first and len(first.pictures) > 1
    assert media.cache.bytes == len(first.pictures) * 56 * 56 * 3
