"""Reads slides beside OpenSlide: equal to the byte, and at least as fast?

    python3 -m venv V && V/bin/pip install numpy blake3 tifffile imagecodecs openslide-python openslide-bin
    cargo build -p consilium-learning --example slide_read
    V/bin/python tests/peers/slides_read.py target/debug/examples/slide_read [SLIDE ...]

Without SLIDE: the Aperio slide of $CONSILIUM_DATA (else ../shared/data), a pyramid of 8880 x 8901 px made of its pixels
(JPEG 4:2:0), and, read by tifffile instead, OME-TIFF and JPEG 2000 files. Prints a table; exits 1 where pixels differ.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import blake3
import numpy as np
import openslide
import tifffile

SIDES = (256, 512, 1024)
RUNS = 5


def regions(sizes, per_side, seed=7):
    """Random regions inside each level: [level, x, y, w, h] in pixels of the level."""
    random = np.random.default_rng(seed)
    found = []
    for level, (width, height) in enumerate(sizes):
        for side in SIDES:
            w, h = min(side, width), min(side, height)
            for _ in range(per_side):
                found.append([level, int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1)), w, h])
    return found


def ours(program, slide, listed, threads, digests=False):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(listed, file)
        file.flush()
        arguments = [program, str(slide), file.name, str(threads)] + (["digests"] if digests else [])
        return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def theirs(path, listed, threads):
    """Seconds that OpenSlide needs, from opening to the last pixel, several threads sharing one handle."""
    start = time.perf_counter()
    slide = openslide.OpenSlide(path)
    left = iter(listed)
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                region = next(left, None)
            if region is None:
                return
            level, x, y, w, h = region
            scale = slide.level_downsamples[level]
            slide.read_region((round(x * scale), round(y * scale)), level, (w, h))

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - start


def over_white(rgba):
    pixels = np.asarray(rgba).astype(np.uint32)
    alpha = pixels[..., 3:]
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def compare(program, path, levels):
    """How many regions differ, and by how much the mean colours do at most; `levels` are the true pixels."""
    listed = regions([(pixels.shape[1], pixels.shape[0]) for pixels in levels], 10)
    answer = ours(program, path, listed, 2, digests=True)["regions"]
    different, mean = 0, 0.0
    for (level, x, y, w, h), (_, digest, means) in zip(listed, answer, strict=True):
        expected = np.ascontiguousarray(levels[level][y : y + h, x : x + w])
        different += blake3.blake3(expected.tobytes()).hexdigest() != digest
        mean = max(mean, np.abs(expected.reshape(-1, 3).mean(0) - means).max())
    print(f"{Path(path).name}: {different} of {len(listed)} regions differ, colour means by at most {mean:.4f}")
    return different


def openslide_levels(path):
    slide = openslide.OpenSlide(path)
    return [over_white(slide.read_region((0, 0), level, size)) for level, size in enumerate(slide.level_dimensions)]


def benchmark(program, path):
    slide = openslide.OpenSlide(path)
    sizes = slide.level_dimensions
    lists = {f"level {level}, {side} px": [r for r in regions(sizes, 60) if r[0] == level][n * 60 : n * 60 + 60]
             for level in range(len(sizes)) for n, side in enumerate(SIDES)}
    lists["all of them"] = regions(sizes, 60)
    print(f"{Path(path).name}: regions/s, medians of {RUNS} alternating runs, ours / OpenSlide's = ratio")
    for name, listed in lists.items():
        cells = []
        for threads in (1, 2, 4) if name == "all of them" else (1,):
            pairs = [(ours(program, path, listed, threads)["seconds"], theirs(path, listed, threads)) for _ in range(RUNS)]
            mine, other = (len(listed) / statistics.median(column) for column in zip(*pairs))
            cells.append(f"{threads} threads: {mine:.0f} / {other:.0f} = {mine / other:.2f}")
        print(f"  {name}: " + "; ".join(cells))


def fixtures(folder, base):
    """Files made with tifffile, with the pixels that tifffile reads from them."""
    halves = [base, base[::2, ::2], base[::4, ::4]]
    common = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
    for name, options in {
        "deflate.ome.tif": {"compression": "adobe_deflate"},
        "bigtiff.ome.tif": {"compression": "lzw", "predictor": True, "big": True},
    }.items():
        big = options.pop("big", False)
        with tifffile.TiffWriter(folder / name, ome=True, bigtiff=big) as file:
            metadata = {"axes": "YXS", "PhysicalSizeX": 499.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.499}
            more = {**common, **options}
            file.write(halves[0], **{**more, "metadata": metadata}, subifds=2)
            for level in halves[1:]:
                file.write(level, **more, subfiletype=1)
        yield folder / name
    for name, code in {"j2k-rgb.svs": 33005, "j2k.tif": 34712}.items():
        with tifffile.TiffWriter(folder / name) as file:
            for number, level in enumerate(halves):
                file.write(level, **common, compression=code, compressionargs={"reversible": True}, subfiletype=number > 0,
                           resolution=(20040, 20040), resolutionunit="CENTIMETER",
                           description="Aperio Image Library |MPP = 0.499" if number == 0 else None)
        yield folder / name


def mosaic(path, base):
    level = np.tile(base, (3, 4, 1))
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        number = 0
        while min(level.shape[:2]) > 512:
            file.write(level, photometric="ycbcr", tile=(256, 256), compression="jpeg", compressionargs={"level": 80},
                       subsampling=(2, 2), resolution=(20040, 20040), resolutionunit="CENTIMETER", metadata=None,
                       subfiletype=number > 0)
            level, number = np.ascontiguousarray(level[::2, ::2]), number + 1


def tiff_levels(path):
    with tifffile.TiffFile(path) as file:
        series = file.series[0].levels
        pages = file.pages
        return [level.asarray() for level in series] if len(series) > 1 else [page.asarray() for page in pages]


def main():
    program, *slides = sys.argv[1:]
    if slides:
        different = sum(compare(program, slide, openslide_levels(slide)) for slide in slides)
        for slide in slides:
            benchmark(program, slide)
        return different
    data = Path(os.environ.get("CONSILIUM_DATA", Path(__file__).parents[3] / "shared/data"))
    svs = data / "wsi/CMU-1-Small-Region.svs"
    levels = openslide_levels(svs)
    different = compare(program, svs, levels)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for path in fixtures(folder, levels[0]):
            different += compare(program, path, tiff_levels(path))
        large = folder / "mosaic.tif"
        mosaic(large, levels[0])
        # OpenSlide shifts regions of coarser levels by parts of a pixel where their downsample is no whole number.
        different += compare(program, large, tiff_levels(large))
        benchmark(program, svs)
        benchmark(program, large)
    return different


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
