"""Embed parquet files with Ray Data: on this machine, or on a cluster that Ray is told of.

    python docs/examples/ray_data.py MODEL IN OUT --actors 2
    python docs/examples/ray_data.py MODEL gs://b/in gs://b/out --accelerator tpu --each 4

On a TPU node pool of GKE, KubeRay gives each host a resource "TPU": --each is the chips of a host,
--actors the hosts. docs/deploy/ray-tpu-v6e.yaml runs this script there.
"""

import typer


def main(
    model: str, source: str, target: str, actors: int = 1, accelerator: str = "cpu", each: int = 1
):
    import ray

    from jaxpool.integrations.ray import embed

    rows = ray.data.read_parquet(source)
    made = embed(rows, model, keep=["id"], actors=actors, accelerator=accelerator, each=each)
    made.write_parquet(target)


if __name__ == "__main__":
    typer.run(main)
