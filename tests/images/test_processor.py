"""Pixels equal transformers' image processors (without torchvision) to the last bit."""

import numpy as np
import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from jaxpool.errors import RequestError
from jaxpool.images.patches import cut
from jaxpool.images.processor import Processor
from jaxpool.images.resize import Exact, PatchBudget, PixelBudget, ShortestEdge
from tests.images.photos import photo, photos


def values(pixels: np.ndarray, reference) -> np.ndarray:
    """8-bit pixels `[height, width, 3]` in the arithmetic of a processor: `[3, height, width]`."""
    channels = reference.rescale(pixels.transpose(2, 0, 1), reference.rescale_factor)
    return reference.normalize(channels, reference.image_mean, reference.image_std)


@pytest.mark.parametrize(
    "ours,reference",
    [
        (Processor(32, ShortestEdge(224), (224, 224)), CLIPImageProcessorPil()),
        (
            Processor(14, ShortestEdge(97), (120, 80), resample=2),
            CLIPImageProcessorPil(
                size={"shortest_edge": 97}, crop_size={"height": 120, "width": 80}, resample=2
            ),
        ),
        (Processor(16, Exact(224, 224)), SiglipImageProcessorPil()),
        (
            Processor(14, Exact(96, 128), resample=1),
            SiglipImageProcessorPil(size={"height": 96, "width": 128}, resample=1),
        ),
    ],
)
def test_fixed_sizes(ours, reference):
    for image in photos():
        wanted = reference(image, return_tensors="np").pixel_values[0]
        np.testing.assert_array_equal(values(ours.pixels(image), reference), wanted)


@pytest.mark.parametrize("most", [256, 64])
def test_patch_budget(most):
    ours = Processor(16, PatchBudget(16, most), resample=2)
    reference = Siglip2ImageProcessorPil(max_num_patches=most)
    for image in photos():
        wanted = reference(image, return_tensors="np")
        found = ours(image)
        assert (found.rows, found.cols) == tuple(wanted.spatial_shapes[0])
        count = len(found.patches)
        assert wanted.pixel_attention_mask[0].sum() == count
        channels = found.patches.reshape(count, -1, 3)
        np.testing.assert_array_equal(
            values(channels, reference).transpose(1, 2, 0).reshape(count, -1),
            wanted.pixel_values[0][:count],
        )


@pytest.mark.parametrize("patch,least,most", [(14, 3136, 100_352), (16, 4096, 1_843_200)])
def test_pixel_budget_in_merge_order(patch, least, most):
    ours = Processor(patch, PixelBudget(2 * patch, least, most), merge=2)
    reference = Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": least, "longest_edge": most}
    )
    for image in photos():
        wanted = reference(image, return_tensors="np")
        found = ours(image)
        assert (1, found.rows, found.cols) == tuple(wanted.image_grid_thw[0])
        count = len(found.patches)
        channels = values(found.patches.reshape(count, -1, 3), reference)  # [3, count, side²]
        frames = wanted.pixel_values.reshape(count, 3, 2, -1)
        for frame in range(2):
            np.testing.assert_array_equal(
                channels.transpose(1, 0, 2).astype(np.float32), frames[:, :, frame]
            )


def test_grid_tells_where_each_patch_lies():
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.indices((24, 32)) // 4
    for merge in (1, 2):
        picture = cut(pixels, 4, merge)
        np.testing.assert_array_equal(picture.patches[:, :2], picture.grid[:, :2])
        assert (picture.grid[:, 2:] == (6, 8)).all()
    assert picture.grid[:4, :2].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_what_lies_beyond_whole_patches_is_left_out():
    picture = cut(np.zeros((38, 30, 3), np.uint8), 14)
    assert (picture.rows, picture.cols) == (2, 2)
    assert picture.patches.shape == (4, 14 * 14 * 3)


def test_extreme_shapes_are_refused():
    with pytest.raises(RequestError, match="aspect ratio must be smaller than 200"):
        Processor(14, PixelBudget(28, 3136, 10**6))(photo(201, 1))
    with pytest.raises(RequestError, match="too long for this model"):
        Processor(32, ShortestEdge(224), (224, 224))(photo(4000, 1))
