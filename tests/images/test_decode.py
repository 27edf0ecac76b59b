"""Every kind of file, mode and array becomes the right picture, or a clear refusal."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxpool.errors import RequestError
from jaxpool.images.decode import decode
from tests.images.photos import encoded, photo

PHOTO = photo(40, 30)


def pixels(source) -> np.ndarray:
    return np.asarray(decode(source)).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_files_without_loss(kind, tmp_path):
    image = PHOTO.quantize(64) if kind == "GIF" else PHOTO
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image, kind, **options)
    wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(data), wanted)
    path = tmp_path / "picture"
    path.write_bytes(data)
    np.testing.assert_array_equal(pixels(path), wanted)
    np.testing.assert_array_equal(pixels(str(path)), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    """A picture is turned as its camera was held, from a file and as a Pillow image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PHOTO, "PNG", exif=exif)
    turned = Image.open(io.BytesIO(data))
    wanted = np.asarray(ImageOps.exif_transpose(turned))
    assert wanted.shape == ((40, 30, 3) if orientation > 4 else (30, 40, 3))
    np.testing.assert_array_equal(pixels(data), wanted)
    np.testing.assert_array_equal(pixels(turned), wanted)


def test_damaged_exif_is_no_orientation():
    data = encoded(PHOTO, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels(data), PHOTO)


def test_pictures_that_are_right_already_are_not_copied():
    image = Image.fromarray(np.asarray(PHOTO))
    assert decode(image) is image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "tRNS"])
def test_transparency_lies_over_white(mode):
    clear = photo(40, 30, 1).convert("RGBA")
    clear.putalpha(
        Image.fromarray(np.where(np.arange(40) < 20, 0, 255)[None].repeat(30, 0).astype(np.uint8))
    )
    if mode == "tRNS":
        data = io.BytesIO(encoded(PHOTO.convert("L"), "PNG", transparency=7))
        wanted = np.asarray(PHOTO.convert("L"))
        wanted = np.where(wanted == 7, 255, wanted)[..., None].repeat(3, -1)
        np.testing.assert_array_equal(pixels(Image.open(data)), wanted)
        return
    image = clear.quantize(200) if mode == "P" else clear.convert(mode)
    found = pixels(image)
    assert (found[:, :20] == 255).all()
    np.testing.assert_array_equal(found[:, 20:], np.asarray(image.convert("RGB"))[:, 20:])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_modes_without_transparency(mode):
    image = PHOTO.convert(mode)
    np.testing.assert_array_equal(pixels(image), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg():
    image = photo(40, 32).convert("CMYK")
    assert np.abs(pixels(encoded(image, "JPEG", quality=100)) - pixels(image)).mean() < 4


def test_sixteen_bits_keep_their_shades():
    deep = np.linspace(0, 65535, 40 * 30).reshape(30, 40)
    image = Image.fromarray(deep.astype(np.uint16))
    for source in (image, encoded(image, "PNG"), encoded(image, "TIFF")):
        np.testing.assert_allclose(pixels(source)[..., 0], deep / 257, atol=0.51)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_range_are_refused(mode):
    with pytest.raises(RequestError, match=f"mode {mode} have no known range"):
        decode(PHOTO.convert("L").convert(mode))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(kind):
    frames = [photo(24, 24, seed) for seed in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    found = pixels(data)
    errors = [np.abs(found - np.asarray(frame)).mean() for frame in frames]
    assert errors[0] < 12 < min(errors[1:])


def test_arrays():
    array = np.asarray(PHOTO)
    np.testing.assert_array_equal(pixels(array), array)
    grey = array[..., 0]
    for one in (grey, grey[..., None]):
        np.testing.assert_array_equal(pixels(one), grey[..., None].repeat(3, -1))
    alpha = np.dstack([array, np.zeros((30, 40), np.uint8)])
    assert (pixels(alpha) == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(RequestError, match="an image array must be uint8"):
        decode(array)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3)])
def test_empty_pictures(shape):
    with pytest.raises(RequestError, match="it is empty"):
        decode(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_truncated_files(kind):
    whole = encoded(photo(200, 200), kind)
    for size in (len(whole) // 2, 8):
        with pytest.raises(RequestError, match="Failed to load image"):
            decode(whole[:size])


@pytest.mark.parametrize(
    "data", [b"", b"no picture at all", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_picture(data):
    with pytest.raises(RequestError, match="Failed to load image"):
        decode(data)


def test_what_is_not_there(tmp_path):
    with pytest.raises(RequestError, match="Failed to load image"):
        decode(tmp_path / "missing.png")
    with pytest.raises(RequestError, match="got int"):
        decode(7)


@pytest.mark.parametrize("side", [14_000, 30_000])
def test_decompression_bombs_are_refused_by_their_header(side):
    """A small file of many pixels, below and beyond the size that Pillow itself refuses."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(RequestError, match="Failed to load image.*pixels"):
        decode(data)
    with pytest.raises(RequestError, match="1200 pixels|40 x 30 pixels, of which 1000"):
        decode(PHOTO, limit=1000)
