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


DEVICES = {
    "gpu": "nvidia.com/gpu",
    **dict.fromkeys(["tpu-v5e", "tpu-v6e", "tpu-v7x", "tpu-v6e-spot"], "google.com/tpu"),
}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def manifests(file):
    """The documents of a file by their kinds."""
    documents = list(yaml.safe_load_all((DOCS / "deploy" / f"{file}.yaml").read_text()))
    assert all(one["apiVersion"] and one["metadata"]["name"] for one in documents)
    return {one["kind"]: one for one in documents}


def check_pod(pod, kinds):
    """The options, rights and key of a pod; its container and what its command line says."""
    (container,) = pod["containers"]
    options = parse(container["args"])
    assert pod["terminationGracePeriodSeconds"] > options.drain_timeout
    assert pod["securityContext"]["runAsNonRoot"]
    secret = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert secret["key"] in kinds["Secret"]["stringData"]
    assert container["env"][0]["name"] == "JAXPOOL_API_KEY"
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"] and mount["mountPath"] == "/cache"
    return container, options


def check_probes(container, options):
    for probe in PROBES:
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
        assert container[probe]["timeoutSeconds"] > options.health_timeout
    assert container["ports"] == [{"name": "http", "containerPort": options.port}]


@pytest.mark.parametrize("file", DEVICES)
def test_manifests(file):
    kinds = manifests(file)
    disk = {"PersistentVolumeClaim", "StorageClass"}
    assert set(kinds) - disk == {"Secret", "Deployment", "Service"}
    spec = kinds["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    container, options = check_pod(pod, kinds)
    check_probes(container, options)
    assert container["resources"]["limits"][DEVICES[file]] >= 1
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == kinds["Service"]["spec"]["selector"]
    if claim := kinds.get("PersistentVolumeClaim"):
        named = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
        assert named == claim["metadata"]["name"]
        # Otherwise a mount lets the group write, and a cache that others can write is not used.
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        if storage := kinds.get("StorageClass"):
            assert claim["spec"]["storageClassName"] == storage["metadata"]["name"]


def test_a_spot_node_is_left_in_time():
    """GKE leaves a pod on a spot node 15 of the 30 seconds after the notice."""
    spec = manifests("tpu-v6e-spot")["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] <= 15 and spec["replicas"] > 1
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert environment["JAXPOOL_CACHE"].startswith("gs://")


def test_several_hosts():
    kinds = manifests("tpu-hosts")
    template = kinds["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    leader, follower = template["leaderTemplate"], template["workerTemplate"]
    container, options = check_pod(leader["spec"], kinds)
    check_probes(container, options)
    other, _ = check_pod(follower["spec"], kinds)
    assert other["args"] == container["args"] and options.distributed is True
    assert not set(PROBES) & set(other)  # followers answer no HTTP
    chips = template["size"] * container["resources"]["limits"]["google.com/tpu"]
    assert options.tensor_parallel_size * options.data_parallel_size == chips == 16
    selected = kinds["Service"]["spec"]["selector"]
    assert selected.items() <= leader["metadata"]["labels"].items()
    assert not selected.items() <= follower["metadata"]["labels"].items()
    assert template["restartPolicy"] == "RecreateGroupOnPodRestart"


def test_dockerfile():
    text = (DOCS / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    assert {line.split()[0] for line in lines} == INSTRUCTIONS
    assert lines[0].startswith("FROM") and lines[-1] == 'ENTRYPOINT ["jaxpool", "serve"]'
    root = DOCS.parent
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
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
