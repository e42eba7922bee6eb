"""The pipeline against transformers' own image processors, and torchvision's steps restated in Pillow and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sanderling.errors import ImageError, ManifestError
from sanderling.preprocess.canonical import Reduced
from sanderling.preprocess.image import ImagePipeline, value_table
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    ImageStep,
    Normalize,
    Rescale,
    Resize,
    ResizeFit,
    ResizeShortest,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Heights of 1 and 3 are left out of the comparison: transformers takes them for channels.
SIZES = [(300, 500), (501, 299), (97, 64), (5, 2), (2, 7), (224, 224), (225, 224), (256, 341), (30, 1200), (900, 31)]


def whole(width: int, height: int) -> Reduced:
    """A JPEG that was decoded in full the fast way."""
    return Reduced(width, height, (0.0, 0.0, float(width), float(height)))


def image(height: int, width: int, seed: int = 0) -> Image.Image:
    """Noise over a gradient, so that both a shift by one pixel and a rounding show."""
    random = np.random.default_rng((seed, height, width))
    noise = random.integers(0, 256, (height, width, 3))
    slope = np.linspace(0, 255, width)[None, :, None]
    return Image.fromarray(((noise + slope) / 2).astype(np.uint8))


def run(steps: tuple[ImageStep, ...], rgb: Image.Image) -> NDArray[np.float32]:
    values, _ = ImagePipeline(ImagePreprocessing(steps=steps))(rgb)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    return values


def processors() -> dict[str, tuple[Any, tuple[ImageStep, ...]]]:
    transformers = pytest.importorskip("transformers")
    scale = Rescale(factor=1 / 255)
    return {
        "vit": (
            transformers.ViTImageProcessor(),
            (Resize(224, 224, "bilinear"), scale, Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        ),
        "vit, not square, nearest": (
            transformers.ViTImageProcessor(
                size={"height": 63, "width": 40}, resample=0, image_mean=MEAN, image_std=STD
            ),
            (Resize(63, 40, "nearest"), scale, Normalize(MEAN, STD)),
        ),
        "vit, no normalization": (
            transformers.ViTImageProcessor(do_normalize=False, resample=1),
            (Resize(224, 224, "lanczos"), scale),
        ),
        "convnext 224": (
            transformers.ConvNextImageProcessor(
                size={"shortest_edge": 224}, crop_pct=0.875, resample=3, image_mean=MEAN, image_std=STD
            ),
            (ResizeShortest(256, "bicubic"), CenterCrop(224, 224), scale, Normalize(MEAN, STD)),
        ),
        "convnext, odd": (
            transformers.ConvNextImageProcessor(
                size={"shortest_edge": 101}, crop_pct=0.9, resample=2, image_mean=MEAN, image_std=STD
            ),
            (ResizeShortest(int(101 / 0.9), "bilinear"), CenterCrop(101, 101), scale, Normalize(MEAN, STD)),
        ),
        "convnext 384": (
            transformers.ConvNextImageProcessor(
                size={"shortest_edge": 384}, resample=3, image_mean=MEAN, image_std=STD
            ),
            (Resize(384, 384, "bicubic"), scale, Normalize(MEAN, STD)),
        ),
        "clip": (
            transformers.CLIPImageProcessor(),
            (ResizeShortest(224, "bicubic"), CenterCrop(224, 224), scale, Normalize(CLIP_MEAN, CLIP_STD)),
        ),
        "clip, crop larger than the image": (
            transformers.CLIPImageProcessor(
                size={"shortest_edge": 64}, crop_size={"height": 81, "width": 100}, do_convert_rgb=False
            ),
            (ResizeShortest(64, "bicubic"), CenterCrop(81, 100), scale, Normalize(CLIP_MEAN, CLIP_STD)),
        ),
        "bit (ResNet)": (
            transformers.BitImageProcessor(size={"shortest_edge": 232}, image_mean=MEAN, image_std=STD),
            (ResizeShortest(232, "bicubic"), CenterCrop(224, 224), scale, Normalize(MEAN, STD)),
        ),
        "bit, only rescaled by another factor": (
            transformers.BitImageProcessor(
                do_resize=False, do_center_crop=False, do_normalize=False, rescale_factor=1 / 127.5
            ),
            (Rescale(factor=1 / 127.5),),
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "vit",
        "vit, not square, nearest",
        "vit, no normalization",
        "convnext 224",
        "convnext, odd",
        "convnext 384",
        "clip",
        "clip, crop larger than the image",
        "bit (ResNet)",
        "bit, only rescaled by another factor",
    ],
)
def test_equal_to_transformers_bit_for_bit(name: str) -> None:
    processor, steps = processors()[name]
    for height, width in SIZES:
        rgb = image(height, width)
        expected = processor(rgb, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
        values = run(steps, rgb)
        assert values.shape == expected.shape
        assert expected.dtype == np.float32
        assert np.array_equal(values, expected), f"{name} on {width} x {height}"


@settings(max_examples=60, deadline=None)
@given(
    height=st.sampled_from([2, *range(4, 90)]),
    width=st.integers(1, 90),
    crop=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    shortest=st.integers(4, 60),
    resample=st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
)
def test_any_size_equal_to_transformers(
    height: int, width: int, crop: tuple[int, int], shortest: int, resample: str
) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": shortest},
        crop_size={"height": crop[0], "width": crop[1]},
        resample=Image.Resampling[resample.upper()],
    )
    rgb = image(height, width)
    expected = processor(rgb, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    steps = (
        ResizeShortest(shortest, resample),  # type: ignore[arg-type]
        CenterCrop(*crop),
        Rescale(factor=1 / 255),
        Normalize(CLIP_MEAN, CLIP_STD),
    )
    assert np.array_equal(run(steps, rgb), expected)


def as_torchvision(rgb: Image.Image, size: int, crop: tuple[int, int]) -> NDArray[np.float32]:
    """Resize(size), CenterCrop(crop), ToTensor, Normalize as torchvision defines them on Pillow images."""
    torch = pytest.importorskip("torch")
    width, height = rgb.size
    short, long = min(width, height), max(width, height)
    new = (size, int(size * long / short)) if width <= height else (int(size * long / short), size)
    rgb = rgb.resize(new, Image.Resampling.BILINEAR)
    crop_height, crop_width = crop
    pixels = torch.from_numpy(np.asarray(rgb).copy()).permute(2, 0, 1)
    missing_x, missing_y = max(0, crop_width - pixels.shape[2]), max(0, crop_height - pixels.shape[1])
    pixels = torch.nn.functional.pad(
        pixels, (missing_x // 2, (missing_x + 1) // 2, missing_y // 2, (missing_y + 1) // 2)
    )
    top = round((pixels.shape[1] - crop_height) / 2.0)
    left = round((pixels.shape[2] - crop_width) / 2.0)
    pixels = pixels[:, top : top + crop_height, left : left + crop_width]
    tensor = pixels.contiguous().to(torch.float32).div(255)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    result: NDArray[np.float32] = tensor.sub_(mean[:, None, None]).div_(std[:, None, None]).numpy()
    return result


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.integers(1, 60),
)
def test_any_size_equal_to_torchvision(height: int, width: int, crop: tuple[int, int], size: int) -> None:
    rgb = image(height, width)
    steps = (
        ResizeShortest(size, "bilinear"),
        CenterCrop(*crop, rounding="half_even"),
        Rescale(divisor=255.0),
        Normalize(MEAN, STD),
    )
    assert np.array_equal(run(steps, rgb), as_torchvision(rgb, size, crop))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_usual_sizes_equal_to_torchvision(height: int, width: int) -> None:
    rgb = image(height, width)
    steps = (
        ResizeShortest(256, "bilinear"),
        CenterCrop(224, 224, rounding="half_even"),
        Rescale(divisor=255.0),
        Normalize(MEAN, STD),
    )
    assert np.array_equal(run(steps, rgb), as_torchvision(rgb, 256, (224, 224)))


def test_floor_and_half_even_differ_where_they_should() -> None:
    row = Image.fromarray(np.arange(8, dtype=np.uint8)[None, :, None].repeat(3, 2))
    first = {
        (size, rounding): run((CenterCrop(1, size, rounding=rounding), Rescale(divisor=1.0)), row)[0, 0, 0]  # type: ignore[arg-type]
        for size in (3, 5)
        for rounding in ("floor", "half_even")
    }
    # (8 - 5) / 2 = 1.5 and (8 - 3) / 2 = 2.5: rounded down 1 and 2, to the nearest even 2 and 2.
    assert first == {(5, "floor"): 1, (5, "half_even"): 2, (3, "floor"): 2, (3, "half_even"): 2}


def test_the_table_is_the_arithmetic_on_the_array() -> None:
    rgb = image(64, 80)
    pixels = np.asarray(rgb).transpose(2, 0, 1)
    mean, std = np.array(MEAN, np.float32)[:, None, None], np.array(STD, np.float32)[:, None, None]
    by_factor = ((pixels.astype(np.float64) * (1 / 255)).astype(np.float32) - mean) / std
    by_divisor = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    assert np.array_equal(run((Rescale(factor=1 / 255), Normalize(MEAN, STD)), rgb), by_factor)
    assert np.array_equal(run((Rescale(divisor=255.0), Normalize(MEAN, STD)), rgb), by_divisor)
    in_float32 = (pixels.astype(np.float32) * np.float32(1 / 255) - mean) / std
    assert not np.array_equal(by_factor, in_float32), "the precision of the arithmetic can be seen"


def test_without_steps_on_values_pixels_stay_as_they_are() -> None:
    rgb = image(20, 30)
    assert np.array_equal(run((CenterCrop(20, 30),), rgb), np.asarray(rgb).transpose(2, 0, 1))


def test_bgr_turns_the_channels_and_normalizes_in_their_order() -> None:
    rgb = image(20, 30)
    settings = ImagePreprocessing(steps=(Rescale(divisor=255.0), Normalize(MEAN, STD)), channels="BGR")
    values, _ = ImagePipeline(settings)(rgb)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    bgr = (np.asarray(rgb)[:, :, ::-1].astype(np.float32) / np.float32(255) - mean) / std
    assert np.array_equal(values, bgr.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("size", "steps", "share"),
    [
        ((200, 100), (CenterCrop(100, 100),), 0.5),
        ((200, 100), (CenterCrop(50, 100),), 0.75),
        ((200, 100), (ResizeShortest(50, "nearest"), CenterCrop(50, 50)), 0.5),
        ((200, 100), (Resize(224, 224, "nearest"),), 0.0),
        ((20, 10), (CenterCrop(100, 100),), 0.0),
        ((200, 10), (CenterCrop(100, 100),), 0.5),
        ((200, 100), (CenterCrop(100, 100), CenterCrop(50, 100)), 0.75),
    ],
)
def test_the_share_that_was_cropped(size: tuple[int, int], steps: tuple[ImageStep, ...], share: float) -> None:
    _, cropped = ImagePipeline(ImagePreprocessing(steps=steps))(Image.new("RGB", size))
    assert cropped == pytest.approx(share)


@pytest.mark.parametrize(
    ("size", "steps"),
    [
        ((1, 20_000), (ResizeShortest(256, "bicubic"), CenterCrop(224, 224))),
        ((20_000, 1), (ResizeShortest(256, "bicubic"), CenterCrop(224, 224))),
        ((1, 5_000_000), (Resize(224, 224, "bilinear"),)),
        ((8, 8), (Resize(16_384, 16_384, "bilinear"),)),
        ((8, 8), (CenterCrop(16_384, 16_384),)),
    ],
)
@pytest.mark.parametrize("fast", [False, True])
def test_steps_that_would_take_too_many_pixels_are_refused(
    size: tuple[int, int], steps: tuple[ImageStep, ...], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = Image.new("RGB", size)
    for name in ("resize", "crop"):
        monkeypatch.setattr(Image.Image, name, lambda *_: pytest.fail("went on to take the memory"))
    with pytest.raises(ImageError, match=r"takes [\d,]+ pixels in between, expected at most 89,478,485.*less extreme"):
        ImagePipeline(ImagePreprocessing(steps=steps))(rgb, whole(*size) if fast else None)


def test_the_limit_on_pixels_is_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = ImagePipeline(ImagePreprocessing(steps=(Resize(20, 20, "nearest"),)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)
    with pytest.raises(ImageError, match="at most 399"):
        pipeline(Image.new("RGB", (4, 4)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pipeline(Image.new("RGB", (4, 4)))[0].shape == (3, 20, 20)


def test_an_image_that_is_not_canonical_is_refused() -> None:
    with pytest.raises(ImageError, match=r"mode 'RGBA', expected 'RGB'; call canonical"):
        run((CenterCrop(2, 2),), Image.new("RGBA", (4, 4)))


@pytest.mark.parametrize(
    "steps",
    [
        (Rescale(factor=1e300),),
        (Rescale(divisor=1e-300),),
        (Normalize((0, 0, 0), (1, 1, 1e-40)), Rescale(factor=1e10)),
        (Normalize((0, 0, float("nan")), (1, 1, 1)),),
    ],
)
def test_values_that_are_not_finite_are_refused_when_the_bundle_loads(steps: tuple[ImageStep, ...]) -> None:
    with pytest.raises(ManifestError, match="not finite"):
        value_table(steps)


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    first=st.sampled_from(
        [
            ResizeShortest(64, "bicubic"),
            ResizeShortest(40, "bilinear"),
            ResizeFit(56, 72, "cover", "lanczos"),
            Resize(70, 50, "hamming"),
            ResizeShortest(64, "nearest"),
            Resize(70, 50, "box"),
        ]
    ),
    crop=st.sampled_from([CenterCrop(33, 48), CenterCrop(40, 40, rounding="half_even"), CenterCrop(100, 100)]),
)
def test_resizing_only_what_the_crop_keeps_is_no_shift(
    width: int, height: int, first: ImageStep, crop: CenterCrop
) -> None:
    """Of noise, where pixels a tenth of one farther on would be some levels off in the mean."""
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    steps = ImagePreprocessing(steps=(first, crop))
    exact, share = ImagePipeline(steps)(Image.fromarray(pixels))
    fast, cropped = ImagePipeline(steps)(Image.fromarray(pixels), whole(width, height))
    assert (fast.shape, cropped) == (exact.shape, share)
    assert np.abs(fast - exact).mean() < 0.5


def test_only_the_fast_way_resizes_what_the_crop_keeps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    resize = Image.Image.resize

    def noted(image: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", noted)
    settings = ImagePreprocessing(steps=(ResizeShortest(256, "bicubic"), CenterCrop(224, 224)))
    for reduced in (None, whole(512, 1024)):
        ImagePipeline(settings)(Image.new("RGB", (512, 1024)), reduced)
    assert sizes == [(256, 512), (224, 224)]
