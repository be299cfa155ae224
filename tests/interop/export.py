#!/usr/bin/env python3
"""Does nnU-Net v2 predict from what we export as from what it trained itself?

    python tests/interop/nnunet_v2.py make OUT
    python tests/interop/compare.py OUT target/release/consilium-site        # leaves the imported bundles in OUT/compared
    python tests/interop/export.py OUT target/release/consilium-site

Exports each imported bundle of v2, loads it with nnU-Net's own predictor (strictly: every name and shape) and predicts the
pictures with the original folder's and with ours. Ends with 1 if a single pixel differs.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def predictor(folder):
    loaded = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        verbose=False,
        verbose_preprocessing=False,
        allow_tqdm=False,
    )
    loaded.initialize_from_trained_model_folder(str(folder), use_folds=(0, 1, 2, 3, 4))
    return loaded


def labels(model, picture):
    image, about = NaturalImage2DIO().read_images([str(picture)])
    return model.predict_single_npy_array(image, about, None, None, False)


def main(out, site):
    failed = False
    for entry in json.loads((out / "ensembles.json").read_text()):
        if entry["kind"] != "nnunet-v2":
            continue
        work = out / "compared" / entry["name"]
        exported = work / "export"
        shutil.rmtree(exported, ignore_errors=True)
        command = [site, "export", "nnunet-v2", "--bundle", work / "bundle", "--out", exported]
        subprocess.run([str(word) for word in [*command, "--tile-px", entry["tile_px"]]], check=True)
        theirs, ours = predictor(out / entry["model"]), predictor(exported)
        differ, pixels = 0, 0
        for name in entry["images"]:
            a, b = (labels(model, out / "images" / f"{name}.png") for model in (theirs, ours))
            differ, pixels = differ + int(np.count_nonzero(a != b)), pixels + a.size
        print(f"{entry['name']}: {differ} of {pixels} pixels differ")
        failed |= differ > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()))
