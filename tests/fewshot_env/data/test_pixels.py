"""Pixels by stated rules, whatever the mode and the format: values, not only shapes."""

import numpy as np
import pytest
from PIL import Image

from fewshot_env.data.pixels import NEARLY_CONSTANT, colour, decode
from fewshot_env.data.source import PrepareOptions
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from tests.helpers.cli import main
from tests.helpers.images import write_image

S = 84
RAMP = np.linspace(0, 1, S)[None].repeat(S, 0)  # dark on the left


def saved(array, file, mode=None, **options):
    image = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    image.save(file, **options)
    return file


def drawing(mode):
    """A black square on a transparent ground."""
    alpha = np.zeros((S, S), np.uint8)
    alpha[20:60, 20:60] = 255
    image = Image.merge("LA", [Image.new("L", (S, S), 0), Image.fromarray(alpha)])
    return image if mode == "LA" else image.convert("RGBA")


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "palette index", "grey index", "RGB key", "webp"])
@pytest.mark.parametrize("ground", ["white", "black", "#804020"])
def test_transparency_is_laid_over_the_background(kind, ground, tmp_path):
    file = tmp_path / ("a.webp" if kind == "webp" else "a.png")
    if kind in ("RGBA", "LA"):
        drawing(kind).save(file)
    elif kind == "webp":
        drawing("RGBA").save(file, lossless=True)
    elif kind == "palette":  # an alpha for every colour
        drawing("RGBA").quantize(8).save(file)
    else:
        flat = np.full((S, S), 1, np.uint8)
        flat[20:60, 20:60] = 0
        if kind == "palette index":
            image = Image.fromarray(flat, "P") if False else Image.fromarray(flat).convert("P")
            image.putpalette([0, 0, 0, 200, 100, 50])
            image.save(file, transparency=1)
        elif kind == "grey index":
            Image.fromarray(flat * 9).save(file, transparency=9)
        else:
            Image.fromarray((flat * 9)[..., None].repeat(3, 2)).save(file, transparency=(9, 9, 9))
    rgb = decode(file, background=colour(ground)).rgb
    assert np.abs(rgb[2, 2].astype(int) - colour(ground)).max() <= 1
    assert rgb[40, 40].max() <= 1


def test_half_transparent_pixels_are_mixed(tmp_path):
    pixels = np.zeros((S, S, 4), np.uint8)
    pixels[..., 3] = 128
    assert (decode(saved(pixels, tmp_path / "a.png")).rgb == 127).all()


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bits_are_scaled_by_their_range(ending, tmp_path):
    values = np.rint(65535 * RAMP).astype(np.uint16)
    rgb = decode(saved(values, tmp_path / f"a.{ending}")).rgb
    assert (rgb[..., 0] == rgb[..., 2]).all()
    assert np.abs(rgb[..., 0] - 255 * RAMP).max() <= 1
    dark = saved((values // 16).astype(np.uint16), tmp_path / f"dark.{ending}")  # 12 bits stay dark: no guessing
    assert decode(dark).rgb.max() in (15, 16)


def test_big_endian_sixteen_bits(tmp_path):
    image = Image.frombytes("I;16B", (S, S), np.rint(65535 * RAMP).astype(">u2").tobytes())
    image.save(tmp_path / "a.tif")
    assert np.abs(decode(tmp_path / "a.tif").rgb[..., 0] - 255 * RAMP).max() <= 1


def test_floats_lie_between_0_and_1(tmp_path):
    rgb = decode(saved(RAMP.astype(np.float32), tmp_path / "a.tif")).rgb
    assert np.abs(rgb[..., 1] - 255 * RAMP).max() <= 0.5
    for scale, shift in ((255, 0), (1, -0.5), (np.nan, 0)):
        file = saved((scale * RAMP + shift).astype(np.float32), tmp_path / "b.tif")
        with pytest.raises(FewShotError, match=r"its floats lie from .* but must lie in \[0, 1\]"):
            decode(file)


def test_integers_of_32_bits_have_no_known_range(tmp_path):
    with pytest.raises(FewShotError, match="32 bits and no known range; save it with 8 or 16 bits"):
        decode(saved((1000 * RAMP).astype(np.int32), tmp_path / "a.tif"))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_photos_stand_upright(turn, ending, tmp_path):
    """Eight ways to store one picture, red at its upper left."""
    picture = np.full((S, S, 3), 255, np.uint8)
    picture[: S // 2, : S // 2] = (200, 0, 0)
    picture[S // 2 :, : S // 2] = (0, 0, 200)
    t = Image.Transpose
    stored = {1: None, 2: t.FLIP_LEFT_RIGHT, 3: t.ROTATE_180, 4: t.FLIP_TOP_BOTTOM, 5: t.TRANSPOSE, 6: t.ROTATE_90,
              7: t.TRANSVERSE, 8: t.ROTATE_270}[turn]  # fmt: skip
    image = Image.fromarray(picture)
    image = image if stored is None else image.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(tmp_path / f"a.{ending}", exif=exif, **({"quality": 95} if ending == "jpg" else {"lossless": True}
               if ending == "webp" else {}))  # fmt: skip
    rgb = decode(tmp_path / f"a.{ending}").rgb.astype(int)
    assert np.abs(rgb[10, 10] - (200, 0, 0)).max() < 12
    assert np.abs(rgb[70, 10] - (0, 0, 200)).max() < 12
    assert np.abs(rgb[10, 70] - 255).max() < 12


def test_damaged_exif_does_not_cost_the_image(tmp_path):
    Image.new("RGB", (S, S), (9, 200, 30)).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (decode(tmp_path / "a.png").rgb == (9, 200, 30)).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "L", "P"])
def test_other_modes_keep_their_colours(mode, tmp_path):
    colours = Image.new("RGB", (S, S), (255, 0, 0) if mode not in ("1", "L") else (255, 255, 255))
    file = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    colours.convert(mode).save(file)
    expected = (255, 255, 255) if mode in ("1", "L") else (255, 0, 0)
    assert np.abs(decode(file).rgb.astype(int) - expected).max() <= 2


def test_a_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (S, S), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert np.abs(decode(tmp_path / "a.jpg").rgb.astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first(ending, tmp_path):
    frames = [Image.new("RGB", (S, S), c) for c in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if ending == "webp" else {}
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], **options)
    decoded = decode(tmp_path / f"a.{ending}")
    assert decoded.frames == 3
    assert np.abs(decoded.rgb.astype(int) - (200, 0, 0)).max() <= 3


def test_constant_images_and_frames_are_counted_and_printed(tmp_path, capsys):
    root = tmp_path / "r"
    for c in "ab":
        (root / c).mkdir(parents=True)
        for n in range(2):
            write_image(root / c / f"{n}.png", n, 0.5)
    Image.new("RGB", (50, 50), (77, 77, 77)).save(root / "a" / "grey.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(root / "b" / "nothing.png")
    frames = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (30, 30, 3), np.uint8)) for i in (1, 2)]
    frames[0].save(root / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    words = ["data", "prepare", "my-set", "--source", root, "--split", "test", "--data-dir", tmp_path / "s"]
    assert main(*words) == 0
    out = capsys.readouterr().out
    assert "2 constant or nearly so (a/grey.png, b/nothing.png)" in out
    assert "1 with several frames, of which the first was taken" in out
    assert NEARLY_CONSTANT < 16


def test_the_background_is_a_choice_and_part_of_the_index(tmp_path, capsys):
    for c in "ab":
        (tmp_path / "r" / c).mkdir(parents=True)
        drawing("RGBA").save(tmp_path / "r" / c / "0.png")
    options = PrepareOptions("test", background="black")
    store = prepare("my-set", tmp_path / "r", tmp_path / "s", options=options)
    assert (store.images == 0).all()
    assert store.index["background"] == "black"
    assert prepare("my-set", tmp_path / "r", tmp_path / "s", options=PrepareOptions("test")).images.max() == 255
    words = ["data", "prepare", "my-set", "--source", tmp_path / "r", "--background", "blurple"]
    assert main(*words, "--data-dir", tmp_path / "t") == 2
    assert "--background is 'blurple', but must be a colour" in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["HWC", "CHW"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.int64, "unit"])
@pytest.mark.parametrize("keys", [str, str.encode])
def test_pickles_of_miniimagenet_in_any_form(shape, kind, keys, tmp_path):
    import pickle

    from fewshot_env.data.splits import split_list
    from fewshot_env.rng import SPLITS

    pixels = np.random.default_rng(0).integers(0, 256, (2, S, S, 3), np.uint8)
    pixels[0, 0, 0] = 255
    stored = (pixels / 255).astype(np.float32) if kind == "unit" else pixels.astype(kind)
    stored = stored if shape == "HWC" else stored.transpose(0, 3, 1, 2)
    for split in SPLITS:
        wnid = next(w for w, s in split_list("mini").split_of.items() if s == split)
        content = {keys("image_data"): stored, keys("class_dict"): {keys(wnid): [0]}}
        (tmp_path / f"mini-imagenet-cache-{split}.pkl").write_bytes(pickle.dumps(content))
    store = prepare("mini", tmp_path, tmp_path / "s")
    assert (store.images == pixels[:1]).all()
    assert sum(store.index["left_out"].values()) == 3  # image 1 of each, which no class has
