"""The files of docs/deploy: well-formed, consistent, wired to /health."""

import re
from pathlib import Path

import pytest
import yaml

from serving.config import Options, parse

DOCS = Path(__file__).parents[2] / "docs"
INSTRUCTIONS = {
    *("FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT"),
}


@pytest.mark.parametrize("file, device", [("gpu", "nvidia.com/gpu"), ("tpu", "google.com/tpu")])
def test_manifests(file, device):
    documents = list(yaml.safe_load_all((DOCS / "deploy" / f"{file}.yaml").read_text()))
    kinds = {one["kind"]: one for one in documents}
    assert set(kinds) == {"Secret", "PersistentVolumeClaim", "Deployment", "Service"}
    assert all(one["apiVersion"] and one["metadata"]["name"] for one in documents)
    spec = kinds["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    options = parse(container["args"])
    assert pod["terminationGracePeriodSeconds"] > options.drain_timeout
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
        assert container[probe]["timeoutSeconds"] > options.health_timeout
    assert container["ports"] == [{"name": "http", "containerPort": options.port}]
    assert container["resources"]["limits"][device] >= 1
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == kinds["Service"]["spec"]["selector"]
    claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == kinds["PersistentVolumeClaim"]["metadata"]["name"]
    secret = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert secret["key"] in kinds["Secret"]["stringData"]
    assert container["env"][0]["name"] == "JAXPOOL_API_KEY"


def test_dockerfile():
    text = (DOCS / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    assert {line.split()[0] for line in lines} == INSTRUCTIONS
    assert lines[0].startswith("FROM") and lines[-1] == 'ENTRYPOINT ["jaxpool", "serve"]'
    root = DOCS.parent
    for line in lines:
        if line.startswith("COPY"):
            assert all((root / name).exists() for name in line.split()[1:-1]), line


def test_every_documented_option_exists():
    table = (DOCS / "serving.md").read_text().partition("## Options")[2].partition("\n## ")[0]
    flags = set(re.findall(r"--(?:no-)?([a-z][a-z-]+)", table)) - {"help"}
    known = {name.replace("_", "-") for name in Options.model_fields}
    assert flags <= known


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yaml"])
def test_dashboards_and_alerts_name_metrics_and_labels_that_there_are(servers, file):
    """A renamed metric would leave an empty panel, or an alert that never fires."""
    server = servers("minilm")
    server.post("/v1/embeddings", {"input": "cat"})
    # A refusal is counted from the first on.
    server.service.metrics.rejections("minilm", "queue").inc(0)
    samples = re.findall(r"^([\w:]+)\{(.*)\} ", server.client.get("/metrics").text, re.MULTILINE)
    labels = {label for _, given in samples for label in re.findall(r"(\w+)=", given)}
    text = (DOCS / "deploy" / file).read_text()
    parsed = yaml.safe_load(text)  # JSON is YAML
    asked = set(re.findall(r"\b(?:vllm|jaxpool):\w+|\bhttp_\w+", text))
    assert len(asked) >= 5 and asked <= {name for name, _ in samples}
    grouped = {
        name for by in re.findall(r"\b(?:by|on) \(([^)]+)\)", text) for name in by.split(", ")
    }
    shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
    assert grouped | shown <= labels
    assert parsed.get("panels") or all(rule["expr"] for rule in parsed["groups"][0]["rules"])
