#!/usr/bin/env python3
"""Imports the reference ensembles and compares what we make of them with what nnU-Net made.

    python tests/interop/nnunet_v2.py make OUT
    python tests/interop/nnunet_v1.py make OUT
    python tests/interop/compare.py OUT target/release/consilium-site [--only NAME] [--means PROGRAM]

For each ensemble of OUT/ensembles.json: `import` into a bundle, `scan` of the pictures, then one line of a table with

    labels    share of pixels whose label is nnU-Net's, over all pictures, at nnU-Net's tile size and step 0.5, no flips
    worst     the picture with the smallest such share; narrow and small are padded by nnU-Net
    of exact  the same against the argmax of nnU-Net's code with float32 sums (v2 adds in float16)
    network   largest difference of a fold's logits on one tile: the imported member in PyTorch against nnU-Net's own
    mean      largest difference of the mean logits (v1: probabilities) of a whole picture from nnU-Net's with float32
              sums, where a PROGRAM is given; it is run as `PROGRAM BUNDLE PICTURE.png TILE_PX FILE` and writes FILE as
              float32, little endian, [classes, height, width]

The pictures are put into a data folder with outlines that call all of them tissue, so that every pixel is scanned;
where a pixel is not tissue after all it is left out, and the number of pixels that were compared is printed. Ends with
1 if labels are equal on less than 99.9 % or a difference is over 1e-3.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import tifffile
from skimage import draw, io

import fields

LABELS_AT_LEAST, LOGITS_WITHIN = 0.999, 1e-3
HEADS = ("ensemble", "pixels", "labels", "worst picture", "of exact", "network", "mean", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("site", type=pathlib.Path, help="the program consilium-site")
    parser.add_argument("--only", action="append", help="compare these ensembles only")
    parser.add_argument("--means", type=pathlib.Path, metavar="PROGRAM", help="writes the mean logits of a picture")
    args = parser.parse_args()
    means = args.means and args.means.resolve()
    listed = json.loads((args.out / "ensembles.json").read_text())
    listed = [entry for entry in listed if not args.only or entry["name"] in args.only]
    assert listed, "no ensemble to compare"
    lines = [compare(args.out.resolve(), args.site.resolve(), means, entry) for entry in listed]
    widths = [max(len(line[i]) for line in [HEADS, *lines]) for i in range(len(HEADS))]
    for line in [HEADS, *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 1 if any(line[-1] != "ok" for line in lines) else 0


def compare(out, site, means, entry):
    """One line of the table."""
    work = out / "compared" / entry["name"]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    bundle, scanned = work / "bundle", work / "scan"
    model = out / entry["model"]
    said = run(site, "import", entry["kind"], model, "--out", bundle, "--spacing-um", fields.SPACING_UM)
    said = said or scan(site, work, bundle, scanned, entry, out / "images")
    if said:
        return (entry["name"], "0", "-", "-", "-", "-", "-", said)
    reference = out / entry["reference"]
    pixels, equal, equal_exact, mean, shares = 0, 0, 0, None, {}
    for name in entry["images"]:
        ours, counted = read_labels(scanned / name, name)
        labels = io.imread(reference / "mirror-off" / f"{name}.png")
        exact = np.load(reference / "mirror-off" / f"{name}.npz")["exact"]
        assert ours.shape == labels.shape == exact.shape[1:], (name, ours.shape, labels.shape, exact.shape)
        pixels += int(counted.sum())
        equal += int((ours == labels)[counted].sum())
        shares[name] = float((ours == labels)[counted].mean()) if counted.any() else 0.0
        equal_exact += int((ours == exact.argmax(0))[counted].sum())
        if means:
            picture, file = out / "images" / f"{name}.png", work / f"{name}.f32"
            said = run(means, bundle, picture, entry["tile_px"], file)
            assert not said, said
            found = np.fromfile(file, "<f4").reshape(exact.shape)
            mean = max(mean or 0.0, float(np.abs(found - exact).max()))
    network = network_difference(bundle, reference / "network.safetensors")
    worst = min(shares, key=shares.get)
    return line(entry["name"], pixels, equal, f"{worst} {shares[worst]:.3%}", equal_exact, network, mean)


def line(name, pixels, equal, worst, equal_exact, network, mean):
    """The cells of a comparison, and whether it is good enough."""
    share = equal / pixels if pixels else 0.0
    reasons = []
    if share < LABELS_AT_LEAST:
        reasons.append("labels differ")
    if network > LOGITS_WITHIN:
        reasons.append("networks differ")
    if mean is not None and mean > LOGITS_WITHIN:
        reasons.append("means differ")
    return (
        name,
        str(pixels),
        f"{share:.3%}",
        worst,
        f"{equal_exact / max(pixels, 1):.3%}",
        f"{network:.1e}",
        "-" if mean is None else f"{mean:.1e}",
        ", ".join(reasons) or "ok",
    )


def run(site, *words):
    """Runs a command of ours; what it complains of, or nothing."""
    done = subprocess.run([str(word) for word in (site, *words)], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()
        why = next((line for line in said if line.startswith("error")), said[-1])
        return f"`{words[0]}` ended with {done.returncode}: {why}"
    return None


def scan(site, work, bundle, scanned, entry, pictures):
    """Scans the pictures as one data folder; the outputs of each come to lie in SCANNED/NAME/."""
    data, table = work / "data", ["slide,mpp"]
    for part in ("slides", "tissue"):
        (data / part).mkdir(parents=True)
    for name in entry["images"]:
        shutil.copy(pictures / f"{name}.png", data / "slides")
        height, width = io.imread(pictures / f"{name}.png").shape[:2]
        (data / "tissue" / f"{name}.geojson").write_text(json.dumps(everything(width, height)))
        table.append(f"{name},{fields.SPACING_UM}")
    (data / "slides.csv").write_text("\n".join(table) + "\n")
    settings = ["--step", "0.5", "--tile-px", entry["tile_px"]]
    return run(site, "scan", data, "--bundle", bundle, "--out", scanned, *settings)


def everything(width, height):
    """Outlines that say: all is tissue."""
    ring = [[0, 0], [width, 0], [width, height], [0, height], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    properties = {"classification": {"name": "Tissue"}}
    return {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": geometry, "properties": properties}],
    }


def read_labels(folder, name):
    """Our labels of a picture, and which pixels lie in its tissue."""
    labels = tifffile.imread(folder / f"{name}-labels.tif", level=0).squeeze()
    counted = np.zeros(labels.shape, bool)
    for feature in json.loads((folder / f"{name}-tissue.geojson").read_text())["features"]:
        for index, ring in enumerate(feature["geometry"]["coordinates"]):
            corners = np.array(ring, float)
            # Outlines run along the corners of pixels; a pixel is inside where its middle is.
            inside = draw.polygon2mask(labels.shape, corners[:, ::-1] - 0.5)
            counted[inside] = index == 0
    return labels, counted


def network_difference(bundle, reference):
    """Largest difference between the imported members, run by PyTorch under nnU-Net's names, and nnU-Net's networks."""
    import torch
    from safetensors.torch import load_file

    import plain_conv_unet

    manifest = json.loads((bundle / "ensemble.json").read_text())
    expected = load_file(reference)
    tile = expected.pop("input")
    assert len(manifest["members"]) == len(expected), "not every fold became a member"
    network = plain_conv_unet.build(manifest["architecture"])
    network.eval()
    largest = 0.0
    for number, member in enumerate(manifest["members"]):
        plain_conv_unet.load(network, with_all_biases(network, load_file(bundle / member["file"])))
        with torch.inference_mode():
            largest = max(largest, float((network(tile) - expected[f"fold_{number}"]).abs().max()))
    return largest


def with_all_biases(network, tensors):
    """v1 has no bias in its transposed convolutions and segmentation layers; where v2's network has one, it is zero."""
    absent = [name for name in network.state_dict() if name.endswith(".bias") and name not in tensors]
    absent = [name for name in absent if name.startswith(("decoder.transpconvs.", "decoder.seg_layers."))]
    return tensors | {name: network.state_dict()[name] * 0 for name in absent}


if __name__ == "__main__":
    sys.exit(main())
