"""Corruptions: against the plain versions of the page over sizes, by law where they are random, and at the door."""

import colorsys
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

import weightbook.blocks.corruptions as corruptions
from weightbook.blocks.corruptions import AVAILABLE, CORRUPTIONS, FAMILIES, SEVERITIES, corrupt
from weightbook.book.checks import assert_close, z_test
from weightbook.book.pages import find_notebook

PLAYED = [name for name in CORRUPTIONS if name != "shot_noise"]  # the plain version can play back the same chance
SIZES = [(3, 32, 32), (1, 28, 28), (3, 16, 16), (3, 8, 8), (3, 17, 33), (1, 40, 24)]
DETERMINISTIC = [
    "gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", "jpeg_compression", "pixelate",
]
GROWING = set(CORRUPTIONS) - {
    "motion_blur", "glass_blur", "frost", "saturate", "elastic_transform",
}


@pytest.fixture(scope="module")
def page():
    "The names that the page defines before it shows everything together: photographs, plain versions, the tape"
    space = {"__name__": "page"}
    for cell in json.loads(find_notebook("corruptions").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if source.startswith("## All of them"):
            return space
        if cell["cell_type"] == "code" and "show_doc(" not in source:
            kept = [line for line in source.splitlines() if not line.startswith(("compare(", "assert compare("))]
            exec(compile("\n".join(kept), "<page>", "exec"), space)
    raise AssertionError("the page has lost its section «All of them»")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assets(name, page=None):
    if name != "frost":
        return {}
    return {"textures": page["photos"] if page else noise_images((2, 3, 48, 48), seed=9)}


def noise_images(shape, seed=0):
    return torch.randint(256, shape, generator=seeded(seed), dtype=torch.uint8)


def real_images(page, shape, count=2):
    "Crops of the photographs"
    C, H, W = shape
    top, left = torch.randint(80, (count, 2), generator=seeded(3)).T.tolist()
    crops = [page["photos"][i % 2, :C, t : t + H, x : x + W] for i, (t, x) in enumerate(zip(top, left, strict=True))]
    return torch.stack(crops)


# ---- against the plain versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", PLAYED)
def test_values_are_those_of_the_plain_version(page, name, shape):
    gaps = []
    for images in (real_images(page, shape), noise_images((1, *shape))):
        for severity in (1, 2, 3, 4, 5):
            for seed, image in enumerate(images):
                ours = corrupt(image[None], name, severity, seeded(seed), **assets(name, page))[0].numpy()
                tape = page["Tape"](seed)
                wanted = page["corrupt_plain"](image.numpy(), name, severity, tape, **assets(name, page))
                gaps.append(np.abs(ours.astype(int) - wanted))
    gaps = np.stack(gaps)
    exact = name in ("jpeg_compression", "pixelate")
    assert gaps.max() <= (0 if exact else 1)
    assert (gaps > 0).mean() <= (0 if exact else 0.003)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 16, 16)], ids=str)
def test_traded_glass_is_the_plain_loop(page, shape):
    for severity in (1, 3, 5):
        image = real_images(page, shape, 1)
        ours = corrupt(image, "glass_blur", severity, seeded(), swap=True)[0].numpy()
        wanted = page["corrupt_plain"](image[0].numpy(), "glass_blur", severity, page["Tape"](0), swap=True)
        assert np.abs(ours.astype(int) - wanted).max() <= 1


def test_a_trade_moves_pixels_and_makes_none():
    x = torch.arange(2 * 3 * 100).view(2, 3, 10, 10) % 256 / 255
    offset = torch.randint(4, (2, 8, 8), generator=seeded())
    source = torch.arange(100).view(10, 10).repeat(2, 1, 1)
    source[:, 2:, 2:] -= (offset & 1) + (offset >> 1) * 10
    traded = corruptions._traded(x, source.flatten(1))
    assert not torch.equal(traded, x)
    assert_close(traded.flatten(2).sort(-1).values, x.flatten(2).sort(-1).values, 1e-6)


@pytest.mark.parametrize("quality", [1, 10, 40, 49, 50, 80, 95, 100])
@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 3, 19, 27), (1, 1, 9, 50)], ids=str)
def test_jpeg_is_libjpeg_to_the_bit_at_any_quality(page, quality, shape):
    for images in (real_images(page, shape[1:], 1), noise_images(shape)):
        file = io.BytesIO()
        Image.fromarray(images[0].permute(1, 2, 0).numpy().squeeze()).save(file, "JPEG", quality=quality)
        wanted = torch.from_numpy(np.atleast_3d(np.array(Image.open(file)))).permute(2, 0, 1).float()
        ours = corruptions._jpeg_compression(images.float() / 255, quality, None)[0] * 255
        assert_close(ours.round().clamp(0, 255), wanted, 0.0)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_hsv_by_the_standard_library(severity):
    image, (factor, offset) = noise_images((1, 3, 8, 8)), SEVERITIES["saturate"][severity - 1]
    image[..., 0] = image[:, :1, :, 0]  # grey pixels
    image[..., 0, 0] = 0
    brighter = corrupt(image, "brightness", severity)[0].flatten(1).T.tolist()
    vivid = corrupt(image, "saturate", severity)[0].flatten(1).T.tolist()
    for rgb, bright, strong in zip(image[0].flatten(1).T.tolist(), brighter, vivid, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
        wanted = colorsys.hsv_to_rgb(h, s, min(v + SEVERITIES["brightness"][severity - 1], 1))
        assert bright == [int(255 * c + 1e-4) for c in wanted]
        wanted = colorsys.hsv_to_rgb(h, min(s * factor + offset, 1), v)
        assert strong == [int(255 * c + 1e-4) for c in wanted]


# ---- by law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gaussian_noise_has_its_variance_and_a_flat_spectrum(severity):
    flat = torch.full((256, 1, 16, 16), 128, dtype=torch.uint8)
    noise = corrupt(flat, "gaussian_noise", severity, seeded()).double() - 127.5
    variance = (SEVERITIES["gaussian_noise"][severity - 1] * 255) ** 2 + 1 / 12
    z_test(noise.flatten(1).mean(1), 0.0)
    z_test(noise.flatten(1).square().mean(1), variance)
    power = torch.fft.fft2(noise[:, 0]).abs().square() / 256
    z_test(power, torch.full((16, 16), variance), limit=5.0)


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("level", [20, 100])
def test_shot_noise_is_poisson(severity, level):
    photons = SEVERITIES["shot_noise"][severity - 1]
    flat = torch.full((200, 1, 16, 16), level, dtype=torch.uint8)
    seen = torch.bincount(corrupt(flat, "shot_noise", severity, seeded()).flatten().long(), minlength=256).numpy()
    law = stats.poisson(photons * level / 255)
    wanted = np.zeros(256)
    for count in range(3 * photons):
        wanted[min(255, int(255 * count / photons + 1e-4))] += law.pmf(count)
    common = wanted * seen.sum() > 10
    pooled = [np.append(v[common], v[~common].sum()) for v in (seen, wanted * seen.sum())]
    assert stats.chisquare(*pooled).pvalue > 1e-4
    assert_close(corruptions._poisson_levels(photons)[level].numpy(), wanted, 1e-9)


@pytest.mark.parametrize("photons", SEVERITIES["shot_noise"])
def test_alias_table_holds_the_law(photons):
    entries = corruptions._alias_table(photons).view(256, 256).long()
    chance = (entries >> 8).double() / 2**23 / 256
    table = chance.scatter_add(1, entries & 255, 1 / 256 - chance)
    assert_close(table.sum(1), torch.ones(256, dtype=torch.float64), 1e-12)
    assert (table - corruptions._poisson_levels(photons)).abs().max() < 2**-22


def test_shot_noise_keeps_black_and_the_mean():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(4096, 1, 16, 16)
    noisy = corrupt(ramp, "shot_noise", 1, seeded()).double().flatten(1)
    assert noisy[:, 0].max() == 0
    middle = slice(10, 180)  # not clipped; the cut takes between nothing and one level
    lost = torch.arange(256.0)[middle] - noisy.mean(0)[middle]
    assert -0.5 < lost.min() and lost.max() < 1.3 and 0.3 < lost.mean() < 0.7


@pytest.mark.parametrize("severity", [1, 5])
def test_impulse_noise_hits_its_share_half_and_half(severity):
    flat = torch.full((256, 3, 16, 16), 100, dtype=torch.uint8)
    noisy, amount = corrupt(flat, "impulse_noise", severity, seeded()), SEVERITIES["impulse_noise"][severity - 1]
    assert set(noisy.unique().tolist()) == {0, 100, 255}
    for extreme in (0, 255):
        z_test((noisy == extreme).double().flatten(1).mean(1), amount / 2)


def test_speckle_noise_grows_with_the_value():
    for level in (50, 100):
        flat = torch.full((256, 1, 16, 16), level, dtype=torch.uint8)
        noise = corrupt(flat, "speckle_noise", 5, seeded()).double().flatten(1) - (level - 0.5)
        z_test(noise.square().mean(1), (0.2 * level) ** 2 + 1 / 12)


def test_fog_textures_fill_their_range():
    maps = corruptions._plasma(torch.zeros(200, 1, 32, 32), 3.0, seeded())
    assert_close(maps.amin((1, 2)), torch.zeros(200), 0.0)
    assert_close(maps.amax((1, 2)), torch.ones(200), 0.0)


@pytest.mark.parametrize("decay", [1.75, 3.0])
def test_fog_steps_shrink_with_the_square_of_the_decay(decay):
    "Centres minus the mean of their corners, on two neighbouring grids"
    maps = corruptions._plasma(torch.zeros(400, 1, 32, 32), decay, seeded()).double()
    size = []
    for step in (4, 2):
        corners, half = maps[:, ::step, ::step], step // 2
        pairs = corners + corners.roll(-1, 1)
        gap = maps[:, half::step, half::step] - (pairs + pairs.roll(-1, 2)) / 4
        size.append(gap.square().mean((1, 2)).sqrt())
    ratio = size[1] / size[0]
    assert abs(ratio.mean() * decay**2 - 1) < 0.03


@pytest.mark.parametrize(("name", "low", "high"), [("motion_blur", -45, 45), ("snow", -135, -45)])
def test_directions_fill_their_range(name, low, high, monkeypatch):
    drawn, smear = [], corruptions._smear
    monkeypatch.setattr(corruptions, "_smear", lambda x, r, s, degrees: drawn.append(degrees) or smear(x, r, s, degrees))
    corrupt(torch.zeros(400, 1, 8, 8, dtype=torch.uint8), name, 5, seeded())
    degrees = torch.cat(drawn)
    assert stats.kstest(degrees.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize("degrees", [0, 30, 45, -45, -90, -135])
def test_smearing_is_a_correlation(degrees):
    "A one-sided kernel whose mass lies towards the angle, here by SciPy"
    image = noise_images((1, 1, 20, 24)).double()
    kernel, weights = np.zeros((17, 17)), np.exp(-0.5 * (np.arange(9) / 2) ** 2)
    for k, weight in enumerate(weights / weights.sum()):
        radians = math.radians(degrees)
        kernel[8 + math.ceil(k * math.sin(radians) - 0.5), 8 + math.ceil(k * math.cos(radians) - 0.5)] += weight
    wanted = np.floor(ndimage.correlate(image[0, 0].numpy(), kernel, mode="nearest") + 0.5 / 257)
    ours = corruptions._smear(image.float() / 255, 4, 2, torch.tensor([float(degrees)]))[0, 0] * 255
    assert (ours.round().numpy() != wanted).mean() < 0.005


def test_elastic_reach_and_waves_are_shares_of_the_image():
    "A linear ramp shows by how many pixels an image was moved"
    for size in (32, 64):
        ramp = torch.arange(float(size)).expand(64, 1, size, size) / size
        moved = corruptions._moved(ramp, 0.08 * size, seeded()) * size
        inner = slice(size // 2, size // 2 + size // 3)  # a triangle between the three points
        gap = (moved - ramp * size)[:, 0, inner, size // 2 + size // 3 - 1].abs().amax(1) / size
        assert 0.05 < gap.max() < 0.17


# ---- what every corruption promises ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_dtype_and_input_stay(name):
    for shape in [(3, 3, 8, 8), (1, 1, 11, 9), (2, 1, 28, 28), (0, 3, 16, 16)]:
        images = noise_images(shape)
        kept = images.clone()
        out = corrupt(images, name, 3, seeded(), **assets(name))
        assert out.shape == images.shape and out.dtype == torch.uint8 and out.device == images.device
        assert torch.equal(images, kept) and out.data_ptr() != images.data_ptr() or not len(images)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_only_the_generator_decides(name):
    images = noise_images((5, 3, 16, 16))
    first, again = (corrupt(images, name, 4, seeded(7), **assets(name)) for _ in range(2))
    assert torch.equal(first, again)
    torch.manual_seed(7)
    assert torch.equal(corrupt(images, name, 4, **assets(name)), first)
    other = corrupt(images, name, 4, seeded(8), **assets(name))
    assert torch.equal(other, first) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_images_do_not_mix(name):
    images = noise_images((9, 3, 16, 16))
    assert torch.equal(corrupt(images, name)[4:5], corrupt(images[4:5], name))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_memory_layout_does_not_matter(name):
    images = noise_images((4, 3, 16, 24))
    wanted = corrupt(images, name, 5, seeded(), **assets(name))
    for view in (images.to(memory_format=torch.channels_last), images.transpose(0, 3).contiguous().transpose(0, 3)):
        assert torch.equal(corrupt(view, name, 5, seeded(), **assets(name)), wanted)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_images_are_survived(name, level):
    flat = torch.full((2, 3, 16, 16), level, dtype=torch.uint8)
    x = corruptions._CORRUPT[name](flat.float() / 255, SEVERITIES[name][0], seeded(), **assets(name))
    assert x.isfinite().all()


@pytest.mark.parametrize("name", ["frost", "saturate", "spatter"])
@pytest.mark.parametrize("severity", [2, 5])
def test_a_grey_image_is_painted_in_colour_and_made_grey(name, severity):
    grey = noise_images((2, 1, 16, 16))
    ours = corrupt(grey, name, severity, seeded(), **assets(name))[:, 0].double()
    rgb = corrupt(grey.expand(-1, 3, -1, -1), name, severity, seeded(), **assets(name)).double()
    luma = (rgb * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]).sum(1)
    assert (ours - luma).abs().max() < 1.01


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pieces_of_a_batch_give_a_whole(name, monkeypatch):
    "Each piece draws after the one before it"
    images = noise_images((5, 3, 8, 8))
    monkeypatch.setattr(corruptions, "_CHUNK", {True: 2 * 192, False: 0})
    together, generator = corrupt(images, name, 5, seeded(), **assets(name)), seeded()
    parts = [corrupt(part, name, 5, generator, **assets(name)) for part in images.split(2)]
    assert torch.equal(torch.cat(parts), together)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(page, name):
    tiles = page["tiles"]
    mse = [
        (corrupt(tiles, name, k, seeded(1), **assets(name, page)).double() - tiles.double()).square().mean().item()
        for k in (1, 2, 3, 4, 5)
    ]
    assert min(mse) > 0
    if name in GROWING:
        assert mse == sorted(set(mse))


def test_contrast_keeps_the_mean_of_each_channel(page):
    tiles = page["tiles"].double()
    for severity, factor in enumerate(SEVERITIES["contrast"], 1):
        gap = corrupt(page["tiles"], "contrast", severity).double().mean((2, 3)) - tiles.mean((2, 3))
        assert -1 < gap.min() and gap.max() < 0.01  # the cut takes up to a level
        assert_close(corruptions._contrast(tiles, factor, None).mean((2, 3)), tiles.mean((2, 3)), 1e-9)


def test_names_families_and_what_is_available():
    assert CORRUPTIONS == tuple(name for family in FAMILIES.values() for name in family)
    assert set(CORRUPTIONS) - set(AVAILABLE) == {"frost"}
    assert set(corruptions._CORRUPT) == set(CORRUPTIONS) == set(SEVERITIES) and len(CORRUPTIONS) == 19


# ---- the door --------------------------------------------------------------------------------------------------------

IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
BAD = {
    "array": ((np.zeros((2, 3, 8, 8), np.uint8), "fog"), {}, TypeError, "`images` must be Tensor"),
    "float": ((IMAGES.float(), "fog"), {}, TypeError, "`images` must have dtype uint8"),
    "three dimensions": ((IMAGES[0], "fog"), {}, ValueError, "`images` must have 4 dimensions"),
    "channels last": ((IMAGES.permute(0, 2, 3, 1), "fog"), {}, ValueError, "C = 1 or 3"),
    "small": ((IMAGES[..., :7], "fog"), {}, ValueError, "at least 8 pixels"),
    "name": ((IMAGES, "gausian_noise"), {}, ValueError, "did you mean 'gaussian_noise'"),
    "severity 0": ((IMAGES, "fog", 0), {}, ValueError, "`severity`"),
    "severity 2.5": ((IMAGES, "fog", 2.5), {}, TypeError, "`severity`"),
    "generator": ((IMAGES, "fog", 1, np.random.default_rng()), {}, TypeError, "`generator`"),
    "no textures": ((IMAGES, "frost"), {}, ValueError, "`textures` must be given"),
    "float textures": ((IMAGES, "frost"), {"textures": torch.zeros(1, 3, 9, 9)}, TypeError, "`textures`"),
    "grey textures": ((IMAGES, "frost"), {"textures": IMAGES[:, :1]}, ValueError, "`textures`"),
    "small textures": ((IMAGES, "frost"), {"textures": IMAGES[..., :7]}, ValueError, "w >= 8"),
    "empty textures": ((IMAGES, "frost"), {"textures": IMAGES[:0]}, ValueError, "K >= 1"),
    "textures elsewhere": ((IMAGES, "fog"), {"textures": IMAGES}, TypeError, "'textures' for 'fog'"),
    "swap": ((IMAGES, "glass_blur"), {"swap": 1}, TypeError, "`swap`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    args, options, error, message = BAD[case]
    with pytest.raises(error) as caught:
        corrupt(*args, **options)
    assert message in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_on_a_gpu(name):
    "Without chance the CPU's values, but for rounding; with it a result of the same kind, reproducible"
    images = noise_images((64, 3, 32, 32))
    make = lambda: corrupt(images.cuda(), name, 5, torch.Generator("cuda").manual_seed(0), **assets(name))  # noqa: E731
    out = make()
    assert out.is_cuda and torch.equal(out, make())
    if name in DETERMINISTIC:
        gap = (out.cpu().int() - corrupt(images, name, 5).int()).abs()
        assert gap.max() <= 1 and (gap > 0).float().mean() < 0.01
