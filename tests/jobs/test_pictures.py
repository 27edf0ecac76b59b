"""Pictures as rows: bytes, paths and datasets' structs, of a model that takes them."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from jaxpool import LLM, Embedder
from tests.images import models
from tests.images.photos import encoded, photos
from tests.jobs.corpora import run


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(models.save(tmp_path_factory.mktemp("clip") / "clip", "clip"))


def test_bytes_paths_and_structs(clip, tmp_path):
    images = photos()[:4]
    files = [encoded(image, "PNG") for image in images]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    model = LLM(clip, data_parallel_size=1).model
    wanted = model.encode([{"image": image} for image in images])
    embedder = Embedder(model, column="image", modality="image", keep=[])
    structs = [{"bytes": files[0], "path": None}, {"bytes": None, "path": str(paths[1])}]
    for values in (files, list(map(str, paths)), [*structs, *files[2:]]):
        found = embedder([{"image": value} for value in values])
        np.testing.assert_allclose([row["embedding"] for row in found], wanted, atol=1e-6)
    parquet.write_table(pa.table({"id": range(4), "image": files}), tmp_path / "in.parquet")
    run(embedder, tmp_path / "in.parquet", tmp_path / "out")
    made = parquet.read_table(tmp_path / "out" / "in.parquet")["embedding"].to_pylist()
    np.testing.assert_allclose(made, wanted, atol=1e-6)
    bad = Embedder(model, column="image", modality="image", keep=[], on_error="null")
    reasons = [row["error"] for row in bad([{"image": v} for v in (files[0], b"x", None)])]
    assert reasons[0] is None and reasons[2] == "null instead of a picture"
    assert "image" in reasons[1]


def test_pictures_are_refused_where_they_have_no_place(toy):
    with pytest.raises(ValueError, match="modality must be one of"):
        Embedder(toy, modality="sound")
    with pytest.raises(ValueError, match="task 'score' reads texts alone"):
        Embedder(toy, "score", ["a", "b"], modality="image")
    with pytest.raises(ValueError, match="not a multimodal model"):
        Embedder(toy, modality="image")([{"text": b"x"}])
