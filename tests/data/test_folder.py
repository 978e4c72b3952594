"""A data set of picture files in class folders."""

import os
import shutil

import numpy as np
import pytest
from picture_files import BLUE, GREEN, RED, class_folders, giant, picture, truncated
from PIL import Image

from odyssey_core.data import DATASETS, picture_set
from odyssey_core.data.dataset import shape_before_loading
from odyssey_core.errors import ConfigError, DataError

folder = DATASETS["folder"]


def colours(images):
    """The colour of each image's middle pixel, (N, 3)."""
    return images.pixels[:, :, images.pixels.shape[2] // 2, images.pixels.shape[3] // 2]


def _coloured(images):
    return {(*colour.tolist(), label) for colour, label in zip(colours(images), images.labels.tolist(), strict=True)}


def test_a_share_of_every_class_is_set_aside_for_testing(tmp_path, cache):
    root = class_folders(tmp_path / "beads", {"cat": 20, "ant": 30})
    data = folder(str(root))
    assert (data.name, data.class_names, data.input_shape) == ("folder-beads", ("ant", "cat"), (3, 8, 8))
    assert (np.bincount(data.train.labels).tolist(), np.bincount(data.test.labels).tolist()) == ([24, 16], [6, 4])
    for part in (data.train, data.test):  # green is the class's, in the order in which the folders were made
        assert np.array_equal(colours(part)[:, 1], np.where(part.labels == 1, 0, 10))
    both = np.concatenate([colours(data.train), colours(data.test)])
    assert len({tuple(colour) for colour in both}) == 50, "each picture is in one part"
    again, other = folder(str(root), test_share=0.2), folder(str(root), split_seed=1)
    assert again.digest == data.digest != other.digest
    assert len(folder(str(root), test_share=0.5).test) == 25


def test_parts_that_the_folder_has(tmp_path, cache):
    root = tmp_path / "x"
    for part, count in {"train": 5, "val": 3, "test": 2}.items():
        class_folders(root / part, {"a": count, "b": count})
    data = folder(str(root))
    assert (len(data.train), data.validation, len(data.test)) == (16, 6, 4)
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5 + [0] * 3 + [1] * 3
    shutil.rmtree(root / "test")
    without_test = folder(str(root))
    assert (len(without_test.train), without_test.validation, len(without_test.test)) == (10, 0, 6)
    shutil.rmtree(root / "val")
    with pytest.raises(DataError, match="at least two classes, got only 'train'"):
        folder(str(root))


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "webp", "bmp", "tif", "TIFF"])
def test_formats(tmp_path, cache, suffix):
    for name, colour in {"red": RED, "blue": BLUE}.items():
        for i in range(2):
            picture(tmp_path / name / f"{i}.{suffix}", colour, format=None)
    data = folder(str(tmp_path), test_share=0.5)
    assert data.class_names == ("blue", "red")
    expected = np.array([BLUE, RED])[data.train.labels]
    assert np.abs(colours(data.train).astype(int) - expected).max() <= 4


def test_pictures_as_cameras_and_printers_write_them(tmp_path, cache):
    """Above red, below blue, whatever the file: turned by its EXIF, CMYK, with a palette; and grey ones."""
    upright = Image.new("RGB", (8, 8), RED)
    upright.paste(BLUE, (0, 4, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown a quarter to the right
    (tmp_path / "a").mkdir()
    upright.save(tmp_path / "a" / "0.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a" / "1.jpg", exif=exif, quality=100, subsampling=0)
    upright.convert("CMYK").save(tmp_path / "a" / "2.jpg", quality=100, subsampling=0)
    upright.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a" / "3.png")
    picture(tmp_path / "b" / "0.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "b" / "1.png")
    listed = sorted(map(str, tmp_path.rglob("*.*")))
    pixels = np.empty((len(listed), 3, 8, 8), np.uint8)
    assert picture_set.decode(listed, pixels, None) == ({}, {})
    turned = pixels[:4].astype(int)
    assert np.abs(turned - turned[0]).max() <= 12
    assert np.abs(turned[:, :, 1, 4] - RED).max() <= 12 and np.abs(turned[:, :, 6, 4] - BLUE).max() <= 12
    assert (pixels[5] == 77).all()


def test_sizes_and_modes(tmp_path, cache):
    """A wide picture, red on the left and green on the right, with blue borders of a quarter on both sides."""
    root = tmp_path / "x"
    for name in "ab":
        wide = Image.new("RGB", (32, 16), BLUE)
        wide.paste(RED, (8, 0, 16, 16))
        wide.paste(GREEN, (16, 0, 24, 16))
        (root / name).mkdir(parents=True)
        for i in range(2):
            wide.save(root / name / f"{i}.png")

    def row(**options):
        return folder(str(root), test_share=0.5, **options).train.pixels[0]

    def names(pixels):
        known = {RED: "r", GREEN: "g", BLUE: "b", (0, 0, 0): "."}
        return "".join(known.get(tuple(c), "?") for c in pixels.T.tolist())

    # Where two colours meet, the filter mixes them.
    assert names(row(size=16)[:, 4]) == "rrrrrrrrgggggggg"  # center_crop
    assert names(row(size=16, mode="resize")[:, 4]) == "bbb??rr??gg??bbb"
    assert names(row(size=16, mode="pad")[:, 6]) == "bbb??rr??gg??bbb"
    assert names(row(size=16, mode="pad")[:, :, 9]) == "....gggggggg...."
    assert row(size=(4, 8)).shape == (3, 4, 8) and row(size=8, channels=1).shape == (1, 8, 8)
    assert shape_before_loading(folder, {"root": str(root), "size": (4, 8), "channels": 1}) == (1, 4, 8)
    assert shape_before_loading(folder, {"root": str(root)}) == (3, 16, 32)
    assert shape_before_loading(folder, {"root": str(root / "c")}) is None


def test_broken_pictures_are_named_or_left_out(tmp_path, cache):
    root = class_folders(tmp_path / "x", {"cat": 10, "dog": 10}, (16, 16))
    whole = folder(str(root))
    truncated(root / "cat" / "004.png")
    (root / "dog" / "notes.txt").write_text("good dogs")
    (root / "README.md").write_text("pets")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    message = r"1 of 20 pictures cannot be read: cat/004\.png: .*truncated.*data\.skip_broken=true to leave them out"
    with pytest.raises(DataError, match=message):
        folder(str(root))
    with pytest.raises(DataError, match=message):
        folder(str(root), size=16)
    for _ in range(2):  # decoded, then from the cache
        data = folder(str(root), skip_broken=True)
        assert len(data.train) + len(data.test) == 19
        names = [line.split(":")[0] for line in data.left_out]
        assert names == ["README.md", "dog/gone.png", "dog/notes.txt", "cat/004.png"]
        assert "link to none" in data.left_out[1] and "truncated" in data.left_out[3]
        for part in ("train", "test"):
            kept, before = getattr(data, part), getattr(whole, part)
            assert _coloured(kept) <= _coloured(before)
    for path in (root / "cat").iterdir():
        truncated(path)
    with pytest.raises(DataError, match="no image of class 'cat' is left to train on; add some"):
        folder(str(root), size=8, skip_broken=True)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda root: None, {}, r"got .*x, which does not exist"),
        (lambda root: root.write_text(""), {}, r"got .*x, which is a file"),
        (lambda root: root.mkdir(), {}, r"expected a folder for each class, .* got no folder in"),
        (lambda root: [picture(root / f"{i}.png") for i in range(3)], {}, r"got 3 pictures and no folder in"),
        (
            lambda root: [class_folders(root, {"a": 2, "b": 2}), (root / "c").mkdir()], {},
            r"x/c: expected pictures \(\.png, .*\), got none; every folder is a class",
        ),
        (lambda root: class_folders(root, {"a": 9}), {}, "at least two classes, got only 'a'; nothing can be told"),
        (lambda root: class_folders(root, {"a": 1, "b": 1}), {}, "2 images of 2 classes are too few to set 2 of them"),
        (
            lambda root: [class_folders(root, {"a": 3, "b": 3}), picture(root / "b" / "9.png", size=(12, 9))], {},
            r"pictures differ in size: b/9\.png has 9 x 12 pixels, others 8 x 8; data\.size=8 makes them one size",
        ),
        (
            lambda root: [class_folders(root, {"a": 3, "b": 3}), giant(root / "a" / "0.png")], {"size": 8},
            r"1 of 7 pictures cannot be read: a/0\.png: .*is larger than \d+ million pixels",
        ),
        (
            lambda root: [giant(root / name / f"{i}.png") for name in "ab" for i in range(3)], {},
            r"[ab]/\d\.png: is larger than \d+ million pixels; .*; remove it, or set data\.skip_broken=true",
        ),
        (
            lambda root: [class_folders(root / x, {"a": 3, y: 3}) for x, y in (("train", "b"), ("test", "z"))], {},
            r"test/z: train has no class folder of this name",
        ),
        (lambda root: class_folders(root, {"a": 3, "b": 3}), {"normalize": "channel", "std": 0.5}, "leave these out"),
    ],
)  # fmt: skip
def test_refused(tmp_path, cache, make, options, message):
    make(tmp_path / "x")
    with pytest.raises((DataError, ConfigError), match=message) as error:
        folder(str(tmp_path / "x"), **options)
    assert len(str(error.value).splitlines()) == 1


def test_a_copy_is_used_until_a_file_changes(tmp_path, cache, monkeypatch):
    root = class_folders(tmp_path / "x", {"a": 5, "b": 5})
    first, decoded = folder(str(root)), []
    real = picture_set.decode
    monkeypatch.setattr(picture_set, "decode", lambda paths, *rest: decoded.append(len(paths)) or real(paths, *rest))
    assert folder(str(root)).digest == first.digest and not decoded
    path = root / "a" / "001.png"
    before = path.stat()
    content = bytearray(Image.open(path).tobytes())
    picture(path, (2, 0, 7))  # as many bytes, and the clock set back
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and bytes(content[:3]) == b"\x01\x00\x07"
    assert folder(str(root)).digest != first.digest and decoded == [10]
    path.rename(root / "a" / "0010.png")
    folder(str(root))
    (root / "b" / "000.png").unlink()
    assert len(folder(str(root)).train) == 7 and decoded == [10, 10, 9]
    folder(str(root), size=4)
    folder(str(root), size=4)
    folder(str(root))
    assert decoded == [10, 10, 9, 9]


def test_mean_and_deviation_of_the_training_pictures(tmp_path, cache):
    root = class_folders(tmp_path / "x", {"a": 5, "b": 5})
    for path in root.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(path)
    data = folder(str(root), normalize="channel")
    values = data.train.pixels / 255
    np.testing.assert_allclose(data.mean, values.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, values.std(axis=(0, 2, 3)), rtol=1e-9)
    assert (folder(str(root)).mean, folder(str(root), mean=(0.1, 0.2, 0.3)).mean) == (0.0, (0.1, 0.2, 0.3))
