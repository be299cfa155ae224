#!/usr/bin/env python3
"""Slides of vendor formats, made with published packages and read by OpenSlide and by ours, region by region.

Packages: openslide-python openslide-bin tifffile imagecodecs numpy pylibCZIrw. With REGION the path of the built example
`region` (cargo build -p consilium-learning --example region):

    CONSILIUM_OPENSLIDE=$(python3 -c 'import openslide_bin as o; print(o.__path__[0])') \
        python3 tests/peers/openslide_formats.py REGION

Prints one line a format and ends with 1 if any region differs by a byte. What each fixture takes from its package: the
CZI is written by Zeiss' own library; the NDPI, SCN, Trestle and Philips slides are written by tifffile, with the tags
and documents by which those vendors' files are known.
"""

import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import openslide
import tifffile
from PIL import Image
from pylibCZIrw import czi

WIDTH, HEIGHT = 3000, 2000
REGIONS_A_LEVEL = 12


def picture():
    """Smooth colours with fine noise, different everywhere."""
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [(0.031, 0.017), (0.011, -0.029), (-0.023, 0.041)]
    smooth = numpy.stack([120 + 110 * numpy.sin(x * a + y * b) for a, b in waves], -1).astype(numpy.uint8)
    return smooth + numpy.random.default_rng(1).integers(0, 16, smooth.shape, dtype=numpy.uint8)


def write_czi(path, image, coding):
    """By Zeiss' library; a slide scanner's file has no axes Z and T and has a list of attachments, so these are mended."""
    with czi.create_czi(str(path), exist_ok=True, compression_options=coding) as document:
        for y in range(0, HEIGHT, 512):
            for x in range(0, WIDTH, 512):
                document.write(image[y : y + 512, x : x + 512, ::-1].copy(), location=(x, y))
        document.write_metadata("peer", scale_x=0.25e-6, scale_y=0.25e-6)
    content = path.read_bytes()
    for axis in (b"Z", b"T", b"H", b"I", b"R", b"V", b"B"):
        # An axis of size one at zero, as a second entry of channel zero.
        entry = axis + rb"\0\0\0(\0\0\0\0\x01\0\0\0....\x01\0\0\0)"
        content = re.sub(entry, rb"C\0\0\0\1", content, flags=re.S)
    content += b"\0" * (-len(content) % 32)
    attachments = len(content)
    content += b"ZISRAWATTDIR".ljust(16, b"\0") + struct.pack("<qq", 256, 256) + bytes(256)
    path.write_bytes(content[:104] + struct.pack("<q", attachments) + content[112:])


def write_ndpi(path, image):
    """One strip of JPEG a level, Hamamatsu's tags."""
    with tifffile.TiffWriter(path) as tiff:
        for lens, level in ((40.0, image), (10.0, image[::4, ::4].copy())):
            tags = [(271, 2, 0, "Hamamatsu", True), (65420, 4, 1, 1, True), (65421, 11, 1, lens, True)]
            tags += [(tag, 9, 1, 0, True) for tag in (65422, 65423, 65424)]
            tiff.write(level, photometric="rgb", compression="jpeg", compressionargs={"level": 90},
                       rowsperstrip=level.shape[0], resolution=(40000, 40000), resolutionunit=3, metadata=None,
                       software="NDP.scan", extratags=tags)  # fmt: skip


def write_scn(path, image):
    """A brightfield image that lies inside a larger collection, in two levels."""
    clicks = 250
    text = f"""<?xml version="1.0" encoding="utf-8"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection name="peer" sizeX="{(WIDTH + 500) * clicks}"
sizeY="{(HEIGHT + 400) * clicks}"><image name="tissue"><creationDate>2020-01-01T00:00:00Z</creationDate><device
model="Leica SCN400" version="1"/><pixels sizeX="{WIDTH}" sizeY="{HEIGHT}"><dimension sizeX="{WIDTH}" sizeY="{HEIGHT}"
r="0" ifd="0"/><dimension sizeX="{WIDTH // 4}" sizeY="{HEIGHT // 4}" r="1" ifd="1"/></pixels><view
sizeX="{WIDTH * clicks}" sizeY="{HEIGHT * clicks}" offsetX="{200 * clicks}" offsetY="{100 * clicks}" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>40</objective></objectiveSettings><illuminationSettings>
<numericalAperture>0.65</numericalAperture><illuminationSource>brightfield</illuminationSource></illuminationSettings>
</scanSettings></image></collection></scn>"""
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        common = {"tile": (512, 512), "photometric": "rgb", "compression": "jpeg", "metadata": None,
                  "resolution": (40000, 40000), "resolutionunit": 3}  # fmt: skip
        tiff.write(image, description=text, **common)
        tiff.write(image[::4, ::4].copy(), subfiletype=1, **common)


def write_trestle(path, image):
    """Tiles that overlap, as the description says; the resolution tags are micrometres."""
    with tifffile.TiffWriter(path) as tiff:
        common = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None,
                  "resolution": (0.25, 0.25), "software": "MedScan 1.0"}  # fmt: skip
        text = "Background Color=FFFFFF;Objective Power=40;OverlapsXY= 16 8 0 0;"
        tiff.write(image, description=text, **common)
        # Of 12 x 8 tiles 11 and 7 overlaps are lost.
        half = image[: HEIGHT - 7 * 8 : 2, : WIDTH - 11 * 16 : 2]
        tiff.write(half.copy(), subfiletype=1, **common)


def write_philips(path, image):
    """Levels padded to whole tiles; the spacing of each in a document."""

    def level(number, spacing):
        return f"""<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">"{spacing}"
"{spacing}"</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER">{number}</Attribute></DataObject>"""

    levels = "".join(level(number, 0.00025 * 2**number) for number in range(3)).replace("\n", " ")
    text = f"""<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport"><Attribute
Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject ObjectType="DPScannedImage"><Attribute
Name="PIM_DP_IMAGE_TYPE">WSI</Attribute><Attribute Name="DICOM_PIXEL_SPACING">"0.00025" "0.00025"</Attribute><Attribute
Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{levels}</Array></Attribute></DataObject></Array></Attribute>
</DataObject>"""
    with tifffile.TiffWriter(path) as tiff:
        for number in range(3):
            part = image[:: 2**number, :: 2**number]
            padding = [(0, -side % 512) for side in part.shape[:2]] + [(0, 0)]
            padded = numpy.pad(part, padding, constant_values=255)
            tiff.write(padded if number else part, tile=(512, 512), photometric="rgb", compression="jpeg",
                       metadata=None, software="Philips DP v1.0", subfiletype=int(number > 0),
                       description=text if number == 0 else f"level={number}")  # fmt: skip


def ours(region, path, *arguments):
    run = subprocess.run([region, path, *map(str, arguments)], capture_output=True, check=False)
    if run.returncode:
        sys.exit(f"{path.name}: {run.stderr.decode()}")
    return run.stdout


def theirs(slide, level, x, y, w, h):
    """Of a whole downsample the level-0 corner is exact; premultiplied pixels over white."""
    base = round(slide.level_downsamples[level])
    assert base == slide.level_downsamples[level]
    read = slide.read_region((x * base, y * base), level, (w, h))
    white = Image.new("RGB", read.size, (255, 255, 255))
    white.paste(read, mask=read.getchannel("A"))
    return numpy.asarray(white)


def compare(region, path):
    about = json.loads(ours(region, path))
    slide = openslide.OpenSlide(path)
    vendor = openslide.OpenSlide.detect_format(path)
    found = [(width, height) for width, height, _ in about["levels"]]
    assert found == list(slide.level_dimensions), (found, slide.level_dimensions)
    assert abs(about["mpp"] - float(slide.properties[openslide.PROPERTY_NAME_MPP_X])) < 1e-9
    random, regions, different, largest = numpy.random.default_rng(2), 0, 0, 0
    for level, (width, height) in enumerate(found):
        boxes = [(0, 0, width, height)]
        for _ in range(REGIONS_A_LEVEL):
            w, h = min(width, int(random.integers(1, 700))), min(height, int(random.integers(1, 700)))
            boxes.append((int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1)), w, h))
        for x, y, w, h in boxes:
            mine = numpy.frombuffer(ours(region, path, level, x, y, w, h), numpy.uint8).reshape(h, w, 3)
            difference = numpy.abs(mine.astype(int) - theirs(slide, level, x, y, w, h)).max()
            regions, different, largest = regions + 1, different + bool(difference), max(largest, int(difference))
    print(f"{path.name}: {about['format']} ({vendor}), {about['mpp']} um/px, levels {found}: {regions} regions, "
          f"{different} differ, largest difference {largest}")  # fmt: skip
    return different == 0


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    image = picture()
    with tempfile.TemporaryDirectory() as folder:
        folder, equal = Path(folder), []
        for name, write in [
            ("raw.czi", lambda path: write_czi(path, image, "uncompressed:")),
            ("zstd.czi", lambda path: write_czi(path, image, "zstd1:ExplicitLevel=3")),
            ("hamamatsu.ndpi", lambda path: write_ndpi(path, image)),
            ("leica.scn", lambda path: write_scn(path, image)),
            ("trestle.tif", lambda path: write_trestle(path, image)),
            ("philips.tiff", lambda path: write_philips(path, image)),
        ]:
            write(folder / name)
            equal.append(compare(sys.argv[1], folder / name))
    print(f"{sum(equal)} of {len(equal)} slides equal to the byte")
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
