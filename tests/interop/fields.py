"""Pictures for the scripts of this folder: crops of MoNuSeg fields with three labels (pale, nucleus, dark).

    CONSILIUM_DATA=FOLDER python tests/interop/nnunet_v2.py make OUT

The data are found through CONSILIUM_DATA, else in ../shared/data beside the checkout. Crops are cut at level 0 of the
fields and taken to be at 0.5 um per pixel: what matters here is that two programs see the same pixels.
"""

import os
import pathlib

import numpy as np
import tifffile
from scipy import ndimage
from skimage import io

CLASSES = {"background": 0, "nucleus": 1, "dark": 2}
SPACING_UM = 0.5
TRAIN_SIDE = 128
# Name, field, top left corner, height and width: several tiles, an odd size, one axis shorter than a tile of 128, both.
TESTED = (
    ("several", "roswell", (40, 90), (256, 300)),
    ("odd", "thoracic", (301, 17), (201, 173)),
    ("narrow", "gastrointestinal", (500, 420), (97, 211)),
    ("small", "pittsburgh", (128, 640), (90, 101)),
)


def data():
    """The folder of MoNuSeg."""
    beside = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("CONSILIUM_DATA", beside)) / "monuseg"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder; set CONSILIUM_DATA to the folder that holds monuseg")
    return folder


def field(site, number):
    """Pixels and labels of the n-th field of a site."""
    slides = sorted((data() / site / "slides").glob("*.tif"))
    slide = slides[number % len(slides)]
    pixels = tifffile.TiffFile(slide).pages[0].asarray()
    nuclei = io.imread(data() / site / "masks" / f"{slide.stem}.png") > 0
    # What is not a nucleus is divided by how dark it is: a task of which a few dozen steps teach something.
    grey = ndimage.gaussian_filter(pixels.mean(axis=2), 2)
    labels = np.where(grey < np.median(grey[~nuclei]), CLASSES["dark"], CLASSES["background"]).astype(np.uint8)
    labels[nuclei] = CLASSES["nucleus"]
    return pixels, labels


def cut(picture, corner, size):
    """A part of a picture, in memory of its own."""
    (y, x), (height, width) = corner, size
    part = np.ascontiguousarray(picture[y : y + height, x : x + width])
    assert part.shape[:2] == tuple(size), (part.shape, size)
    return part


def training(cases=10):
    """Square crops with labels, from the fields of two sites."""
    for number in range(cases):
        pixels, labels = field(("roswell", "thoracic")[number % 2], number // 2)
        corner = (64 * (number % 7), 512 - 48 * (number % 5))
        yield f"case_{number:03}", *(cut(part, corner, (TRAIN_SIDE, TRAIN_SIDE)) for part in (pixels, labels))


def tested():
    """Name and pixels of the pictures that are predicted."""
    for name, site, corner, size in TESTED:
        yield name, cut(field(site, 4)[0], corner, size)


def write_tested(folder):
    """The tested pictures as FOLDER/NAME.png, and their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, pixels in tested():
        io.imsave(folder / f"{name}.png", pixels, check_contrast=False)
        names.append(name)
    return names
