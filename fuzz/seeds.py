"""Seeds for the fuzz targets: small sound files in every coding, so that a run starts behind the first checks.

Written with published packages into fuzz/corpus/{tiff,dicom,zarr,geojson,checkpoint}, each below 20 kB; run in the
repository's root (PyTorch only writes seeds for checkpoints, which are left out without it):

    python3 -m venv VENV && VENV/bin/pip install -r tests/peers/requirements.txt
    VENV/bin/python fuzz/seeds.py
"""

import collections
import importlib.util
import json
import pathlib
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from numcodecs import LZ4, Blosc, GZip, Zlib, Zstd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/peers"))
import dicom_zarr as peers  # noqa: E402

SIDE, TILE, LARGEST = 64, 32, 20_000


def keep(target, name, content):
    assert len(content) < LARGEST, f"{target}/{name} has {len(content)} bytes"
    folder = ROOT / "fuzz/corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name.replace(" ", "-").replace(":", "")).write_bytes(content)


def tiffs(folder, image):
    common = {"photometric": "rgb", "tile": (TILE, TILE), "metadata": None}
    spacing = {"resolution": (20040, 20040), "resolutionunit": "CENTIMETER"}
    aperio = "Aperio Image Library v1|AppMag = 20|MPP = 0.499"
    ycbcr = {**common, "photometric": "ycbcr", "compression": "jpeg", "compressionargs": {"level": 80}}
    cases = {
        "none": common,
        "lzw": {**common, "compression": "lzw", "predictor": True},
        "deflate": {**common, "compression": "adobe_deflate"},
        "zstd": {**common, "compression": "zstd"},
        "packbits": {**common, "compression": "packbits"},
        "jpeg 422": {**ycbcr, "subsampling": (2, 1)},
        "jpeg 420": {**ycbcr, "subsampling": (2, 2)},
        "jpeg rgb": {**common, "compression": "jpeg"},
        "jpeg2000": {**common, "compression": 34712, "compressionargs": {"reversible": True}},
        "aperio jpeg2000": {**common, "compression": 33005, "description": aperio},
        "aperio jpeg": {**ycbcr, "subsampling": (2, 2), "description": aperio},
        "planes": {**common, "planarconfig": "separate"},
    }
    for big in (False, True):
        for name, options in cases.items():
            path = folder / "x.tif"
            with tifffile.TiffWriter(path, bigtiff=big) as file:
                for level in (image, peers.halved(image)):
                    pixels = level.transpose(2, 0, 1) if name == "planes" else level
                    file.write(pixels, **options, **spacing, subfiletype=int(level is not image))
            keep("tiff", f"{name}{' big' if big else ''}.tif", path.read_bytes())
    grey = {**common, "photometric": "minisblack"}
    tifffile.imwrite(path, image[..., 0], **grey, **spacing)
    keep("tiff", "grey.tif", path.read_bytes())
    tifffile.imwrite(path, image, photometric="rgb", rowsperstrip=8, metadata=None)
    keep("tiff", "strips.tif", path.read_bytes())
    for name, options in {"ome": {}, "ome lzw": {"compression": "lzw"}}.items():
        path = folder / "x.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as file:
            metadata = {"axes": "YXS", "PhysicalSizeX": 499.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.499}
            file.write(image, **{**common, **options, "metadata": metadata}, subifds=1)
            file.write(peers.halved(image), **common, **options, subfiletype=1)
        keep("tiff", f"{name}.tif", path.read_bytes())


def dicoms(folder, image):
    for name, coding in peers.DICOM.items():
        inner = folder / name.replace(" ", "-").replace(":", "")
        inner.mkdir()
        peers.dicom(inner, image, coding)
        keep("dicom", f"{name}.dcm", (inner / "1-0.dcm").read_bytes())


def zarrs(folder, image):
    codecs = {"none": None, "zlib": Zlib(5), "gzip": GZip(5), "zstd": Zstd(5), "lz4": LZ4()}
    codecs |= {f"blosc {inner}": Blosc(inner, 5, 1) for inner in ("lz4", "lz4hc", "zstd", "zlib", "blosclz")}
    chunks = {"cyx": (1, TILE, TILE), "c3yx": (3, TILE, TILE), "yxc": (TILE, TILE, 3)}
    peers.LAYOUTS = {name: (*peers.LAYOUTS[name][:2], chunk) for name, chunk in chunks.items()}
    for name, codec in codecs.items():
        for layout in chunks:
            path = folder / f"{name}-{layout}".replace(" ", "-")
            peers.write_zarr(path, [image], layout, codec, dots=layout == "yxc")
            level = path / "0"
            chunk = next(at for at in (level / "0/0/0", level / "0.0.0", level / "0/0") if at.is_file())
            parts = [path / ".zattrs", level / ".zarray", chunk]
            keep("zarr", f"{name} {layout}", b"\xff".join(part.read_bytes() for part in parts))


def geojsons():
    ring = [[100, 100], [2500, 120], [2400, 1800], [90, 1700], [100, 100]]
    hole = [[500, 500], [900, 500], [900, 900], [500, 500]]
    bow = [[0, 0], [3000, 2000], [3000, 0], [0, 2000]]
    polygon = {"type": "Polygon", "coordinates": [ring, hole]}
    several = {"type": "MultiPolygon", "coordinates": [[ring], [bow]]}
    collection = {"type": "GeometryCollection", "geometries": [polygon, several]}

    def feature(geometry, classification=None):
        properties = {"objectType": "annotation", "classification": classification}
        return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}

    features = [feature(polygon, {"name": "Tissue", "color": [1, 2, 3]}), feature(several, {"names": ["Ignore*"]})]
    features += [feature(None), feature({"type": "Point", "coordinates": [1, 2, 3]}), feature(polygon, "Artifact: Fold")]
    cases = {
        "polygon": polygon,
        "several": several,
        "collection": collection,
        "feature": features[0],
        "features": {"type": "FeatureCollection", "features": features},
        "array": features,
        "line": feature({"type": "LineString", "coordinates": ring}),
        "far": {"type": "Polygon", "coordinates": [[[-1e300, -5], [1e300, 0.5], [7, 1e18]]]},
        "empty": {"type": "FeatureCollection", "features": []},
    }
    for name, content in cases.items():
        keep("geojson", f"{name}.json", json.dumps(content).encode())
    keep("geojson", "mark.json", b"\xef\xbb\xbf" + json.dumps(polygon, indent=1).encode())


def pickles():
    content = collections.OrderedDict(
        numbers=[0, -1, 300, 2**40, 2**70, 1.5, None, True], bytes=b"\x00\xff", more=bytearray(b"x"), text="ä\n",
        tuples=[(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], sets=[{1}, frozenset("a"), set()],
        default=collections.defaultdict(list, x=[1]), path=pathlib.PurePosixPath("/a/b"), device=slice(1, 2, None),
        scalars=[numpy_type(1) for numpy_type in (np.float64, np.float16, np.int32, np.uint8, np.bool_)] + [np.str_("x")],
        arrays=[np.ones((2, 3)), np.asfortranarray(np.ones((2, 3), "f4")), np.arange(3, dtype=">i2"), np.array(["a", "bc"]),
                np.array([None, 1], dtype=object)])
    for protocol in range(6):
        keep("checkpoint", f"pickle {protocol}", pickle.dumps(content, protocol))
    keep("checkpoint", "system", b"cos\nsystem\n(Vtrue\ntR.")
    return content


def checkpoints(folder):
    content = pickles()
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    wide = torch.arange(12.0).reshape(3, 4)
    kinds = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    content |= {kind: torch.ones(3).to(getattr(torch, kind)) for kind in kinds}
    content |= {"shared": [wide, wide.t(), wide[1], wide[:, ::2]], "parameter": torch.nn.Parameter(wide[0].clone()),
                "cuda": torch.device("cuda", 0), "size": torch.Size([1, 2]), "type": torch.float32}
    for zipped in (True, False):
        for protocol in (2, 5):
            path = folder / "x"
            more = {"new": torch.ones(2).to(torch.uint16)} if zipped else {}
            torch.save(content | more, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            keep("checkpoint", f"{'zip' if zipped else 'old'} {protocol}", path.read_bytes())
    torch.save({"weight": wide}, path)
    keep("checkpoint", "small zip", path.read_bytes())


def main():
    peers.TILE = TILE
    image = peers.drawn(SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        for write in (tiffs, dicoms, zarrs):
            inner = Path(folder) / write.__name__
            inner.mkdir()
            write(inner, image)
        checkpoints(Path(folder))
    geojsons()
    for target in sorted((ROOT / "fuzz/corpus").iterdir()):
        sizes = [seed.stat().st_size for seed in target.iterdir()]
        print(f"{target.name}: {len(sizes)} seeds, the largest of {max(sizes)} bytes")


if __name__ == "__main__":
    main()
