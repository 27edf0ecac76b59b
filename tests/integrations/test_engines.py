"""Each engine runs an `Embedder` as docs/corpora.md says, in a process of its own."""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import typer
import yaml
from pyarrow import parquet
from typer.testing import CliRunner

from jaxpool import Embedder
from tests.serving import checkpoints

ROOT = Path(__file__).parents[2]
TEXTS = [f"a cat {'purrs ' * (i % 9)}and dog {i} barks" for i in range(200)]
START = """
import sys
import numpy as np
model, source, target = sys.argv[1:]


def check(ids, vectors):
    order = np.argsort(ids)
    np.save(target, np.asarray(vectors, np.float32)[order])
"""
CODES = {
    "datasets": """
from datasets import load_dataset
from jaxpool import Embedder
rows = load_dataset("parquet", data_files=source, split="train")
made = rows.map(Embedder(model), batched=True, batch_size=64)
check(made["id"], made["embedding"])
""",
    "ray": """
import ray
from jaxpool.integrations.ray import embed
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
made = embed(ray.data.read_parquet(source), model, keep=["id"], actors=2, batch_size=50)
rows = made.take_all()
check([row["id"] for row in rows], [row["embedding"] for row in rows])
""",
    "apache_beam": """
import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from pyarrow import parquet
from jaxpool.integrations.beam import ModelHandler
rows = parquet.read_table(source).to_pylist()
out = target + ".txt"
options = PipelineOptions(["--runner=DirectRunner", "--direct_num_workers=1"])
with beam.Pipeline(options=options) as pipeline:
    made = pipeline | beam.Create(rows) | RunInference(ModelHandler(model, batch_size=64))
    lines = made | beam.Map(lambda row: f"{row['id']} {row['embedding'].tolist()}")
    lines | beam.io.WriteToText(out, shard_name_template="")
import json
found = [line.split(" ", 1) for line in open(out)]
check([int(i) for i, _ in found], [json.loads(v) for _, v in found])
""",
    "pyspark": """
from pyspark.sql import SparkSession
from jaxpool import Embedder
from jaxpool.integrations.spark import embed
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
made = embed(spark.read.parquet(source), Embedder(model, keep=["id"])).collect()
check([row["id"] for row in made], [row["embedding"] for row in made])
spark.stop()
""",
    "daft": """
import daft
from jaxpool.integrations.daft import embed
frame = daft.read_parquet(source)
made = frame.with_column("embedding", embed(model, batch_size=64)(frame["text"])).to_pydict()
check(made["id"], made["embedding"])
""",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(checkpoints.embedder(tmp_path_factory.mktemp("engines")))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", CODES)
def test_engine(engine, model, tmp_path):
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=50)
    (tmp_path / "run.py").write_text(START + CODES[engine])
    target = tmp_path / "out.npy"
    command = [sys.executable, str(tmp_path / "run.py"), model, str(tmp_path / "in.parquet")]
    environment = _environment(tmp_path) | {"PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [*command, str(target)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = np.array(Embedder(model)(table)["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(np.load(target), wanted, atol=1e-6)


def _environment(folder):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = {"HF_HOME": str(folder / "hf"), "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    return os.environ | own


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_script_of_the_documentation(model, tmp_path):
    pytest.importorskip("ray")
    parquet.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), tmp_path / "in.parquet")
    script = [sys.executable, str(ROOT / "docs" / "examples" / "ray_data.py"), model]
    done = subprocess.run(
        [*script, str(tmp_path / "in.parquet"), str(tmp_path / "out"), "--actors", "2"],
        capture_output=True, text=True, env=_environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = parquet.read_table(tmp_path / "out").sort_by("id")
    wanted = Embedder(model)(pa.table({"text": TEXTS}))["embedding"].to_pylist()
    assert made["id"].to_pylist() == list(range(len(TEXTS)))
    np.testing.assert_allclose(made["embedding"].to_pylist(), wanted, atol=1e-6)


def test_sparks_function_on_arrow_batches(model):
    from jaxpool.integrations.spark import on_batches

    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    made = list(on_batches(Embedder(model, keep=["id"]))(table.to_batches(max_chunksize=70)))
    assert [batch.num_rows for batch in made] == [70, 70, 60]
    assert made[0].schema.field("embedding").type == pa.list_(pa.float32())
    wanted = Embedder(model)(table)["embedding"].to_pylist()
    found = [row for batch in made for row in batch["embedding"].to_pylist()]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_actors_have_their_share():
    from jaxpool.integrations.ray import actor_options

    assert actor_options("gpu", 1, 8) == {"num_gpus": 1}
    assert actor_options("tpu", 4, 8)["resources"] == {"TPU": 4}
    cpu = actor_options("cpu", 1, 3)
    assert cpu["num_cpus"] == 2 and cpu["runtime_env"]["env_vars"]["NPROC"] == "3"
    with pytest.raises(ValueError, match="accelerator must be one of"):
        actor_options("npu", 1, 1)


def test_the_job_of_the_documentation(monkeypatch):
    """KubeRay is told a command line that the script takes, for the chips that there are."""
    job = yaml.safe_load((ROOT / "docs" / "deploy" / "ray-tpu-v6e.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    program, script, *arguments = job["spec"]["entrypoint"].split()
    head = cluster["headGroupSpec"]["template"]["spec"]
    (mount,), (volume,) = head["containers"][0]["volumeMounts"], head["volumes"]
    assert program == "python" and script == f"{mount['mountPath']}/ray_data.py"
    assert mount["name"] == volume["name"] and volume["configMap"]["name"] == "ray-data"
    calls, example = [], runpy.run_path(str(ROOT / "docs" / "examples" / "ray_data.py"))
    engine = SimpleNamespace(data=SimpleNamespace(read_parquet=lambda source: source))
    monkeypatch.setitem(sys.modules, "ray", engine)

    def embed(*given, **named):
        calls.append((given, named))
        return SimpleNamespace(write_parquet=calls.append)

    monkeypatch.setattr("jaxpool.integrations.ray.embed", embed)
    app = typer.Typer()
    app.command()(example["main"])
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    ((source, model), options), target = calls
    assert source == "gs://BUCKET/in" and target == "gs://BUCKET/out" and "/" in model
    hosts = workers["replicas"] * workers["numOfHosts"]
    assert (options["actors"], options["each"], options["accelerator"]) == (hosts, chips, "tpu")
