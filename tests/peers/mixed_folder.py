"""Twelve slides of mixed formats in one folder, two of them broken: ten are scanned, two named with their cause.

    V/bin/pip install -r tests/peers/requirements.txt
    V/bin/python tests/peers/mixed_folder.py target/debug/consilium-site BUNDLE [FOLDER]

The fixtures are made with published packages: tifffile, imagecodecs, pydicom, ome-zarr, Zeiss' pylibCZIrw, Pillow. The
bundle is any that `consilium-site train` wrote. Prints what the scan printed, and opens every pyramid with tifffile and
OpenSlide and every outline with shapely. Ends with 1 if anything is not as it should be.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import openslide
import openslide_bin
import shapely
import tifffile
from numcodecs import Blosc
from PIL import Image

sys.argv, ARGUMENTS = sys.argv[:1], sys.argv[1:]
sys.path.insert(0, str(Path(__file__).parent))
import dicom_zarr  # noqa: E402
import openslide_formats  # noqa: E402

RESOLUTION = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}  # 0.5 um/px


def slides(folder):
    """Ten slides of 1024 x 768 px at 0.5 um/px or so, and two broken ones."""
    image = dicom_zarr.drawn(1024, 768)
    half = dicom_zarr.halved(image)

    def tiff(name, levels=(image, half), **options):
        ome = options.pop("ome", False)
        with tifffile.TiffWriter(folder / name, ome=ome) as file:
            common = {"photometric": "rgb", "tile": (256, 256), "metadata": None, **options}
            if ome:
                metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
                file.write(levels[0], **{**common, "metadata": metadata}, subifds=1)
                file.write(levels[1], **common, subfiletype=1)
                return
            for number, level in enumerate(levels):
                file.write(level, **common, subfiletype=int(number > 0), **RESOLUTION)

    tiff("01-lzw.tif", compression="lzw", predictor=True)
    tiff("02-jpeg.tif", compression="jpeg", photometric="ycbcr", subsampling=(2, 2))
    tiff("03-j2k.svs", compression=33005, compressionargs={"reversible": True})
    tiff("04-subifd.ome.tif", compression="adobe_deflate", ome=True)
    for number, coding in enumerate(("JPEG concatenated", "J2K lossy ICT", "JPEG sparse"), start=5):
        place = folder / f"{number:02}-dicom"
        place.mkdir()
        dicom_zarr.dicom(place, image, dicom_zarr.DICOM[coding])
    layout = next(iter(dicom_zarr.LAYOUTS))
    dicom_zarr.write_zarr(folder / "08-blosc.ome.zarr", [image, half], layout, Blosc("zstd"))
    openslide_formats.write_czi(folder / "09-zeiss.czi", openslide_formats.picture(), "zstd1:ExplicitLevel=2")
    openslide_formats.write_ndpi(folder / "10-hamamatsu.ndpi", openslide_formats.picture())
    whole = (folder / "02-jpeg.tif").read_bytes()
    (folder / "11-half-copied.tif").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(image).save(folder / "12-no-spacing.png")


def main():
    program, bundle, *rest = ARGUMENTS
    root = Path(rest[0] if rest else tempfile.mkdtemp())
    folder, out = root / "slides", root / "out"
    folder.mkdir(parents=True)
    slides(folder)
    names = sorted(path.name for path in folder.iterdir())
    print(f"{len(names)} slides: {', '.join(names)}")
    environment = {**os.environ, "CONSILIUM_OPENSLIDE": str(Path(openslide_bin.__file__).parent)}
    # All that lies in it goes by what the files say.
    command = [program, "scan", str(folder), "--bundle", bundle, "--out", str(out), "--step", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    print(done.stdout + done.stderr)
    problems = [] if done.returncode == 69 else [f"exit code {done.returncode}, not 69"]
    scanned = sorted(path.name for path in out.glob("*/*.json") if not path.name.endswith("-timing.json"))
    if len(scanned) != 10:
        problems.append(f"{len(scanned)} scanned: {scanned}")
    for broken in ("11-half-copied", "12-no-spacing"):
        if f"left out: {broken}: " not in done.stderr:
            problems.append(f"{broken} is not named")
    for pyramid in sorted(out.glob("*/*.tif")):
        with openslide.OpenSlide(str(pyramid)) as slide, tifffile.TiffFile(pyramid) as file:
            if slide.dimensions != file.pages[0].shape[1::-1]:
                problems.append(f"{pyramid.name}: {slide.dimensions} and {file.pages[0].shape}")
            slide.read_region((0, 0), 0, (256, 256))
    polygons = 0
    for outlines in sorted(out.glob("*/*.geojson")):
        for feature in json.loads(outlines.read_text())["features"]:
            polygons += 1
            if not shapely.geometry.shape(feature["geometry"]).is_valid:
                problems.append(f"{outlines.name}: an outline is not valid")
    print(f"{len(scanned)} scanned, {len(list(out.glob('*/*.tif')))} pyramids opened, {polygons} outlines checked")
    print("\n".join(problems) or "as it should be")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
