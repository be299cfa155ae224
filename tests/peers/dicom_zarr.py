"""DICOM and OME-Zarr slides, read by us and by the packages that others use.

Fixtures are made here with pydicom, imagecodecs, ome-zarr and numcodecs; the references are wsidicom, OpenSlide and
imagecodecs for DICOM, and zarr-python for OME-Zarr. Prints the largest difference of a sample for each fixture and reader;
exits 1 where one differs by more than BOUND, or a reference fails that is not named in CANNOT.

    python3 -m venv VENV
    VENV/bin/pip install pydicom wsidicom openslide-python openslide-bin imagecodecs 'zarr<3' 'numcodecs<0.16' ome-zarr
    cargo build -p consilium-learning --example region
    VENV/bin/python tests/peers/dicom_zarr.py target/debug/examples/region
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import zarr
from numcodecs import LZ4, Blosc, GZip, Zlib, Zstd
from ome_zarr.writer import write_multiscale
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

warnings.simplefilter("ignore")
REGION = sys.argv[1] if len(sys.argv) > 1 else "target/debug/examples/region"
TILE = 256
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG, J2K_LOSSLESS, J2K, RLE = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)


def drawn(width, height):
    """A picture without repetition: waves of colour, sharp discs, and a little noise."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [(0.031, 0.017), (0.011, -0.029), (-0.023, 0.041)]
    image = np.stack([150 + 80 * np.sin(x * a + y * b) for a, b in waves], axis=-1)
    random = np.random.default_rng(7)
    for _ in range(60):
        cx, cy, r = random.uniform(0, width), random.uniform(0, height), random.uniform(5, 40)
        image[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = random.uniform(0, 255, 3)
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def halved(image):
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    parts = image[:height, :width].astype(float).reshape(height // 2, 2, width // 2, 2, 3)
    return parts.mean(axis=(1, 3)).round().astype(np.uint8)


def ours(path, level, x, y, w, h):
    run = subprocess.run([REGION, path, str(level), *map(str, (x, y, w, h))], capture_output=True, check=False)
    if run.returncode:
        raise RuntimeError(run.stderr.decode().strip())
    if run.stderr:
        raise RuntimeError("holes: " + run.stderr.decode().strip())
    return np.frombuffer(run.stdout, np.uint8).reshape(h, w, 3)


def about(path):
    return json.loads(subprocess.run([REGION, path], capture_output=True, check=True).stdout)


def difference(a, b):
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# DICOM -------------------------------------------------------------------------------------------------------------


def tiles(image):
    height, width = image.shape[:2]
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            tile = np.full((TILE, TILE, 3), 255, np.uint8)
            part = image[y : y + TILE, x : x + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield x, y, tile


def rle(tile):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.NumberOfFrames = TILE, TILE, 3, 1
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.PlanarConfiguration = 7, 0, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.PixelData = tile.tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.compress("1.2.840.10008.1.2.5")
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


def jpeg(subsampling, **options):
    return lambda tile: imagecodecs.jpeg8_encode(tile, level=90, subsampling=subsampling, **options)


def j2k(**options):
    return lambda tile: imagecodecs.jpeg2k_encode(tile, codecformat="J2K", **options)


def plain(data):
    return np.frombuffer(data, np.uint8).reshape(TILE, TILE, 3)


def jpeg_as_rgb(data):
    return imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")


# name: (transfer syntax, photometric interpretation, encode, decode, organisation)
DICOM = {
    "native explicit": (EXPLICIT, "RGB", bytes, plain, {}),
    "native implicit": (IMPLICIT, "RGB", bytes, plain, {}),
    "JPEG 4:2:2 BOT": (JPEG, "YBR_FULL_422", jpeg("422"), imagecodecs.jpeg8_decode, {}),
    "JPEG 4:2:0 walk": (JPEG, "YBR_FULL_422", jpeg("420"), imagecodecs.jpeg8_decode, {"bot": False}),
    "JPEG 4:4:4 EOT": (JPEG, "YBR_FULL_422", jpeg("444"), imagecodecs.jpeg8_decode, {"extended": True}),
    "JPEG RGB": (JPEG, "RGB", jpeg("444", outcolorspace="RGB"), jpeg_as_rgb, {}),
    "JPEG fragments": (JPEG, "YBR_FULL_422", jpeg("422"), imagecodecs.jpeg8_decode, {"fragments": 3, "bot": False}),
    "JPEG sparse": (JPEG, "YBR_FULL_422", jpeg("422"), imagecodecs.jpeg8_decode, {"sparse": True}),
    "JPEG concatenated": (JPEG, "YBR_FULL_422", jpeg("422"), imagecodecs.jpeg8_decode, {"parts": 3}),
    "J2K lossless RCT": (J2K_LOSSLESS, "YBR_RCT", j2k(level=0, reversible=True, mct=True), imagecodecs.jpeg2k_decode, {}),
    "J2K lossless RGB": (J2K_LOSSLESS, "RGB", j2k(level=0, reversible=True, mct=False), imagecodecs.jpeg2k_decode, {}),
    "J2K lossy ICT": (J2K, "YBR_ICT", j2k(level=45, reversible=False, mct=True), imagecodecs.jpeg2k_decode, {}),
    "RLE": (RLE, "RGB", rle, None, {}),
}


# Grey levels that a fixture may differ by, 0 where it is not named: lossy JPEG 2000 leaves rounding to its decoder.
BOUND = {"J2K lossy ICT": 1}
# Fixtures that a reference does not read, with words of its refusal.
CANNOT = {
    ("wsidicom", "JPEG fragments"): "WsiDicomReadIO",
    ("OpenSlide", "native implicit"): "Unsupported transfer syntax",
    ("OpenSlide", "JPEG fragments"): "BasicOffsetTable",
    ("OpenSlide", "RLE"): "Unsupported transfer syntax",
}


def instance(folder, name, image, series, coding, frames, places, spacing_mm, extra, options):
    syntax, photometric = coding[:2]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.PatientID, ds.PatientName, ds.StudyInstanceUID = "X", "Nobody^Real", series["study"]
    ds.PatientBirthDate = ds.PatientSex = ds.StudyID = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyDate, ds.StudyTime, ds.ContentDate, ds.ContentTime = "20260101", "000000", "20260101", "000000"
    ds.AcquisitionDateTime = "20260101000000"
    ds.Manufacturer = ds.ManufacturerModelName = ds.DeviceSerialNumber = ds.SoftwareVersions = "test"
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = series["series"], series["frame"]
    ds.PositionReferenceIndicator, ds.SeriesNumber, ds.InstanceNumber = "SLIDE_CORNER", 1, series["next"]
    series["next"] += 1
    ds.Modality, ds.ContainerIdentifier = "SM", "S"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.VolumetricProperties, ds.SpecimenLabelInImage, ds.FocusMethod = "VOLUME", "NO", "AUTO"
    ds.BurnedInAnnotation, ds.ExtendedDepthOfField = "NO", "NO"
    ds.LossyImageCompression = "00"
    ds.TotalPixelMatrixRows, ds.TotalPixelMatrixColumns = image.shape[:2]
    ds.TotalPixelMatrixFocalPlanes, ds.NumberOfOpticalPaths = 1, 1
    ds.ImagedVolumeWidth, ds.ImagedVolumeHeight = image.shape[1] * spacing_mm, image.shape[0] * spacing_mm
    ds.ImagedVolumeDepth = 0.001
    ds.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0
    ds.TotalPixelMatrixOriginSequence = Sequence([origin])
    ds.Rows = ds.Columns = TILE
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, photometric
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.NumberOfFrames = 7, 0, len(frames)
    path, kind, channel = Dataset(), Dataset(), Dataset()
    path.OpticalPathIdentifier, path.ObjectiveLensPower = "1", 20
    kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = "111744", "DCM", "Brightfield illumination"
    channel.CodeValue, channel.CodingSchemeDesignator, channel.CodeMeaning = "111741", "DCM", "Transmission illumination"
    path.IlluminationTypeCodeSequence, path.IlluminationColorCodeSequence = Sequence([channel]), Sequence([kind])
    ds.OpticalPathSequence = Sequence([path])
    measures, shared, frame_type = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [spacing_mm] * 2, 0.001, 0.001
    frame_type.FrameType = ds.ImageType
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.WholeSlideMicroscopyImageFrameTypeSequence = Sequence([frame_type])
    identification = Dataset()
    identification.OpticalPathIdentifier = "1"
    shared.OpticalPathIdentificationSequence = Sequence([identification])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.DimensionOrganizationType = "TILED_SPARSE" if options.get("sparse") else "TILED_FULL"
    organisation = Dataset()
    organisation.DimensionOrganizationUID = series["frame"]
    ds.DimensionOrganizationSequence = Sequence([organisation])
    if options.get("sparse"):
        ds.PerFrameFunctionalGroupsSequence = Sequence([place(x, y) for x, y in places])
    for key, value in extra.items():
        setattr(ds, key, value)
    if syntax in (EXPLICIT, IMPLICIT):
        ds.PixelData = b"".join(frames)
    elif options.get("extended"):
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        ds.PixelData = encapsulate(frames, options.get("fragments", 1), options.get("bot", True))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = syntax not in (EXPLICIT, IMPLICIT)
    ds.save_as(folder / name, enforce_file_format=True)


def place(x, y):
    position, content, group = Dataset(), Dataset(), Dataset()
    position.ColumnPositionInTotalImagePixelMatrix, position.RowPositionInTotalImagePixelMatrix = x + 1, y + 1
    position.XOffsetInSlideCoordinateSystem = position.YOffsetInSlideCoordinateSystem = 0
    position.ZOffsetInSlideCoordinateSystem = 0
    content.DimensionIndexValues = [x // TILE + 1, y // TILE + 1]
    group.PlanePositionSlideSequence, group.FrameContentSequence = Sequence([position]), Sequence([content])
    return group


def dicom(folder, image, coding):
    """Writes a slide of two levels; returns what each level shows."""
    _, _, encode, decode, options = coding
    series = {key: generate_uid() for key in ("study", "series", "frame")} | {"next": 1}
    shown = []
    for level, picture in enumerate((image, halved(image))):
        frames, places = [], []
        canvas = np.full(picture.shape, 255, np.uint8)
        for number, (x, y, tile) in enumerate(tiles(picture)):
            if options.get("sparse") and number % 3 == 1:
                continue
            stored = encode(tile if encode is not bytes else tile.tobytes())
            decoded = (decode(stored) if decode else tile)[: picture.shape[0] - y, : picture.shape[1] - x]
            canvas[y : y + TILE, x : x + TILE] = decoded
            frames.append(stored)
            places.append((x, y))
        shown.append(canvas)
        spacing = 0.0005 * 2**level
        parts = options.get("parts", 1)
        edges = np.linspace(0, len(frames), parts + 1).astype(int)
        concatenation = generate_uid()
        for part, (start, end) in enumerate(zip(edges, edges[1:])):
            extra = {}
            if parts > 1:
                extra = {
                    "ConcatenationUID": concatenation,
                    "InConcatenationNumber": part + 1,
                    "InConcatenationTotalNumber": parts,
                    "ConcatenationFrameOffsetNumber": int(start),
                    "SOPInstanceUIDOfConcatenationSource": concatenation,
                }
            name = f"{parts - part}-{level}.dcm"
            instance(folder, name, picture, series, coding, frames[start:end], places[start:end], spacing, extra, options)
    return shown


def by_wsidicom(folder, level, w, h):
    from wsidicom import WsiDicom

    with WsiDicom.open(folder) as slide:
        return np.asarray(slide.read_region((0, 0), slide.levels[level].level, (w, h)))


def by_openslide(folder, level, w, h):
    import openslide

    with openslide.OpenSlide(sorted(folder.iterdir())[0]) as slide:
        region = np.asarray(slide.read_region((0, 0), level, (w, h))).astype(int)
        # What is not there is transparent, and white on glass.
        alpha = region[..., 3:]
        return (region[..., :3] * (alpha == 255) + 255 * (alpha != 255)).astype(np.uint8)


def compare_dicom(root, image):
    print(f"{'DICOM':18} {'to imagecodecs':>15} {'to wsidicom':>24} {'to OpenSlide':>24}")
    failed = 0
    for name, coding in DICOM.items():
        folder = root / name.replace(" ", "-").replace(":", "")
        folder.mkdir()
        shown = dicom(folder, image, coding)
        facts = about(folder)
        assert abs(facts["mpp"] - 0.5) < 1e-6 and facts["objective"] == 20, facts
        cells = []
        mine = [ours(folder, level, 0, 0, view.shape[1], view.shape[0]) for level, view in enumerate(shown)]
        part = ours(folder, 0, 201, 187, 300, 260)
        assert (part == mine[0][187:447, 201:501]).all(), "a region is a part of the whole"
        worst = max(difference(a, b) for a, b in zip(mine, shown))
        bound = BOUND.get(name, 0)
        bad = worst > bound
        cells.append(f"{worst:>15}")
        for package, reader in (("wsidicom", by_wsidicom), ("OpenSlide", by_openslide)):
            cannot = CANNOT.get((package, name))
            try:
                theirs = [reader(folder, level, view.shape[1], view.shape[0]) for level, view in enumerate(mine)]
            except Exception as error:  # a reference that cannot read a fixture says so, and is to be known for it
                known = cannot is not None and cannot in str(error)
                bad |= not known
                cells.append(f"{'cannot' if known else type(error).__name__ + ': ' + str(error):>24}")
                continue
            off = max(difference(a, b) for a, b in zip(mine, theirs))
            bad |= off > bound
            cells.append(f"{off:>24}")
        failed += bad
        print(f"{name:18}", *cells)
    return failed


# OME-Zarr ----------------------------------------------------------------------------------------------------------

ZARR = {
    "none": None,
    "zlib": Zlib(5),
    "gzip": GZip(5),
    "zstd": Zstd(5),
    "lz4": LZ4(),
    **{
        f"blosc {cname} {['plain', 'bytes', 'bits'][shuffle]}": Blosc(cname, 5, shuffle)
        for cname in ("lz4", "lz4hc", "zstd", "zlib", "blosclz")
        for shuffle in (0, 1, 2)
    },
}
SPACE = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
CHANNEL = {"name": "c", "type": "channel"}
LAYOUTS = {
    "cyx": ([CHANNEL, *SPACE], lambda a: a.transpose(2, 0, 1), (1, 200, 256)),
    "c3yx": ([CHANNEL, *SPACE], lambda a: a.transpose(2, 0, 1), (3, 256, 200)),
    "yxc": ([*SPACE, CHANNEL], lambda a: a, (256, 256, 3)),
    "tczyx": (
        [{"name": "t", "type": "time"}, CHANNEL, {"name": "z", "type": "space", "unit": "micrometer"}, *SPACE],
        lambda a: a.transpose(2, 0, 1)[None, :, None],
        (1, 1, 1, 256, 256),
    ),
}


def scales(axes, um):
    scale = [um if axis["name"] in "yx" else 1.0 for axis in axes]
    return [{"type": "scale", "scale": scale}]


def write_zarr(path, images, layout, compressor, dots=False):
    axes, arrange, chunks = LAYOUTS[layout]
    group = zarr.group(store=zarr.DirectoryStore(str(path)), overwrite=True)
    transformations = [scales(axes, 0.25 * 2**level) for level in range(len(images))]
    if not dots and layout != "yxc":
        write_multiscale(
            [arrange(image) for image in images],
            zarr.group(store=zarr.storage.FSStore(str(path), mode="w", dimension_separator="/", normalize_keys=False)),
            axes=axes,
            coordinate_transformations=transformations,
            storage_options={"chunks": chunks, "compressor": compressor},
        )
        return
    # ome-zarr writes channels first and slashes only.
    datasets = []
    for level, image in enumerate(images):
        separator = "." if dots else "/"
        array = arrange(image)
        group.create_dataset(
            str(level), data=array, chunks=chunks, compressor=compressor, dimension_separator=separator, dtype="u1"
        )
        datasets.append({"path": str(level), "coordinateTransformations": transformations[level]})
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


def read_zarr(path, layout, level):
    array = np.asarray(zarr.open(str(path), mode="r")[str(level)])
    return {"yxc": lambda a: a, "tczyx": lambda a: a[0, :, 0].transpose(1, 2, 0)}.get(
        layout, lambda a: a.transpose(1, 2, 0)
    )(array)


def compare_zarr(root, image):
    images = [image, halved(image), halved(halved(image))]
    cases = [(f"cyx {name}", "cyx", codec, False) for name, codec in ZARR.items()]
    cases += [(f"{layout} {dots}", layout, Blosc("lz4"), dots == ".") for layout in LAYOUTS for dots in "/."]
    print(f"\n{'OME-Zarr':24} {'to zarr-python':>15}")
    failed = 0
    for number, (name, layout, codec, dots) in enumerate(cases):
        path = root / f"{number}.ome.zarr"
        write_zarr(path, images, layout, codec, dots)
        for chunk in sorted(path.rglob("0/1/1"))[:1]:
            # A missing chunk has the fill value.
            chunk.unlink() if chunk.is_file() else None
        assert abs(about(path)["mpp"] - 0.25) < 1e-9
        theirs = [read_zarr(path, layout, level) for level in range(len(images))]
        worst = max(difference(ours(path, n, 0, 0, a.shape[1], a.shape[0]), a) for n, a in enumerate(theirs))
        failed += worst > 0
        print(f"{name:24} {worst:>15}")
    return failed


def main():
    image = drawn(1000, 700)
    with tempfile.TemporaryDirectory() as folder:
        failed = compare_dicom(Path(folder), image) + compare_zarr(Path(folder), image)
    print(f"\n{failed} fixtures differ by more than they should")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
