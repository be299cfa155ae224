#!/usr/bin/env python3
"""A small ensemble of nnU-Net v1 (package nnunet 1.7.1), as the reference for `consilium-site import nnunet-v1`.

    python3 -m venv V && V/bin/pip install -r tests/interop/requirements.txt
    V/bin/pip install --no-deps nnunet==1.7.1
    OMP_NUM_THREADS=1 V/bin/python tests/interop/nnunet_v1.py make OUT [--steps N]

Crops, plans, networks, checkpoints, tiles and export are nnU-Net v1's own: the planner that divides RGB by 255 (with
few features) and the trainer nnUNetTrainerV2_BN, whose BatchNorm is called instnorm. Only the loop of a few dozen steps
is written here, over crops in memory with flips, since v1's augmentation needs batchgenerators of its time. OUT holds
what nnunet_v2.py describes, with `exact` and `exact_folds` as mean class probabilities: v1 averages these, in float32.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import shutil

import numpy as np

import fields
from nnunet_v2 import FOLDS, quiet, write_list

NAME, TASK, TRAINER = "v1-bn-rgb", "Task510_Nuclei", "nnUNetTrainerV2_BN"
PLANS = "nnUNet_RGB_scaleTo_0_1"
STEPS, BATCH = 60, 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("make", choices=["make"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps of each fold")
    args = parser.parse_args()
    out = args.out.resolve()
    folders = {
        "nnUNet_raw_data_base": out / "v1_raw",
        "nnUNet_preprocessed": out / "v1_preprocessed",
        "RESULTS_FOLDER": out / "v1_results",
    }
    os.environ |= {name: str(folder) for name, folder in folders.items()} | {"nnUNet_def_n_proc": "1"}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
    images = fields.write_tested(out / "images")
    with as_in_its_day():
        make(out, images, args.steps)


def make(out, images, steps):
    plan(out)
    trainers = [train(fold, steps) for fold in range(FOLDS)]
    folder = out / "v1_results" / "nnUNet" / "2d" / TASK / f"{TRAINER}__{PLANS}"
    reference = out / "reference" / NAME
    shutil.rmtree(reference, ignore_errors=True)
    for mirror in (False, True):
        predict(out, folder, images, mirror, reference / f"mirror-{'on' if mirror else 'off'}")
    write_network(trainers, out / "images", images[0], reference / "network.safetensors")
    entry = {
        "name": NAME,
        "kind": "nnunet-v1",
        "model": str(folder.relative_to(out)),
        "reference": str(reference.relative_to(out)),
        "averaging": "probabilities",
        "normalisation": "rgb_to_0_1",
        "tile_px": int(trainers[0].patch_size[0]),
        "classes": list(fields.CLASSES),
        "images": images,
    }
    write_list(out, [entry])


@contextlib.contextmanager
def as_in_its_day():
    """What nnunet 1.7.1 expects of older packages: torch.load that unpickles all it is given."""
    import torch

    load = torch.load
    torch.load = functools.partial(load, weights_only=False)
    try:
        yield
    finally:
        torch.load = load


def plan(out):
    """Raw task, crops, fingerprint and plans by nnU-Net v1; only the number of features is ours."""
    with quiet():
        from nnunet.experiment_planning.alternative_experiment_planning.normalization import (
            experiment_planner_2DUNet_v21_RGB_scaleto_0_1 as planners,
        )
        from nnunet.experiment_planning.utils import analyze_dataset, crop
        from nnunet.paths import nnUNet_cropped_data, nnUNet_raw_data, preprocessing_output_dir
        from nnunet.utilities.file_conversions import convert_2d_image_to_nifti

        raw = pathlib.Path(nnUNet_raw_data) / TASK
        for part in ("imagesTr", "labelsTr", "png"):
            (raw / part).mkdir(parents=True)
        from skimage import io

        cases = list(fields.training())
        for case, pixels, labels in cases:
            picture = raw / "png" / f"{case}.png"
            io.imsave(picture, pixels, check_contrast=False)
            convert_2d_image_to_nifti(str(picture), str(raw / "imagesTr" / case))
            io.imsave(picture, labels, check_contrast=False)
            convert_2d_image_to_nifti(str(picture), str(raw / "labelsTr" / case), is_seg=True)
        (raw / "dataset.json").write_text(json.dumps(description([case for case, _, _ in cases])))
        crop(TASK, num_threads=1)
        analyze_dataset(TASK, collect_intensityproperties=False, num_processes=1)
        planned = pathlib.Path(preprocessing_output_dir) / TASK
        planned.mkdir(parents=True)
        planner = planners.ExperimentPlanner2D_v21_RGB_scaleTo_0_1(
            str(pathlib.Path(nnUNet_cropped_data) / TASK), str(planned)
        )
        planner.unet_base_num_features = 8
        planner.plan_experiment()


def description(cases):
    """dataset.json as v1 wants it: the colours are three modalities."""
    return {
        "name": "Nuclei",
        "description": "",
        "reference": "",
        "licence": "",
        "release": "0.0",
        "tensorImageSize": "4D",
        "modality": {"0": "R", "1": "G", "2": "B"},
        "labels": {str(value): name for name, value in fields.CLASSES.items()},
        "numTraining": len(cases),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases],
        "test": [],
    }


def train(fold, steps):
    """A few dozen steps with the trainer's own network, loss and optimiser; its own checkpoint."""
    import torch

    torch.manual_seed(fold)
    with quiet():
        from nnunet.run.default_configuration import get_default_configuration

        plans, output, dataset, batch_dice, stage, trainer_class = get_default_configuration("2d", TASK, TRAINER, PLANS)
        trainer = trainer_class(
            plans, fold, output, dataset, batch_dice=batch_dice, stage=stage, unpack_data=True, deterministic=False,
            fp16=True,
        )
        trainer.initialize(training=False)
    cases = [case for index, case in enumerate(fields.training()) if index % FOLDS != fold]
    random = np.random.default_rng(fold)
    trainer.network.train()
    for step in range(steps):
        trainer.optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps) ** 0.9
        images, labels = batch(cases, random)
        targets = [labels[:, :, :: 2**level, :: 2**level] for level in range(len(trainer.ds_loss_weights))]
        trainer.optimizer.zero_grad()
        loss = trainer.loss(trainer.network(images), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), 12)
        trainer.optimizer.step()
        trainer.all_tr_losses.append(float(loss.detach()))
    trainer.network.eval()
    print(f"{TASK} {TRAINER} {PLANS} fold {fold}: loss {loss.item():.3f} after {steps} steps", flush=True)
    with quiet():
        trainer.save_checkpoint(os.path.join(trainer.output_folder, "model_final_checkpoint.model"))
    # The first step of the trainer's own loop, which is not run here.
    shutil.copy(plans, os.path.join(trainer.output_folder_base, "plans.pkl"))
    return trainer


def batch(cases, random):
    import torch

    images, labels = [], []
    for index in random.integers(len(cases), size=BATCH):
        _, pixels, truth = cases[index]
        flips = [axis for axis in (0, 1) if random.random() < 0.5]
        images.append(np.flip(pixels, flips).transpose(2, 0, 1).astype(np.float32) / 255)
        labels.append(np.flip(truth, flips)[None].astype(np.float32))
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


def predict(out, folder, names, mirror, target):
    """As nnU-Net v1's predict_cases: the folds one after the other, probabilities added, then divided."""
    target.mkdir(parents=True)
    with quiet():
        from nnunet.inference.segmentation_export import save_segmentation_nifti_from_softmax
        from nnunet.training.model_restore import load_model_and_checkpoint_files
        from nnunet.utilities.file_conversions import convert_2d_image_to_nifti, convert_2d_segmentation_nifti_to_img

        trainer, weights = load_model_and_checkpoint_files(
            str(folder), list(range(FOLDS)), mixed_precision=True, checkpoint_name="model_final_checkpoint"
        )
        for name in names:
            case = target / name
            convert_2d_image_to_nifti(str(out / "images" / f"{name}.png"), str(case))
            channels = [f"{case}_{channel:04}.nii.gz" for channel in range(3)]
            data, _, properties = trainer.preprocess_patient(channels)
            assert tuple(properties["original_size_of_raw_data"]) == data.shape[1:], "the picture has a black border"
            folds = []
            for fold in weights:
                trainer.load_checkpoint_ram(fold, False)
                folds.append(
                    trainer.predict_preprocessed_data_return_seg_and_softmax(
                        data,
                        do_mirroring=mirror,
                        mirror_axes=trainer.data_aug_params["mirror_axes"],
                        use_sliding_window=True,
                        step_size=0.5,
                        use_gaussian=True,
                        all_in_gpu=False,
                        mixed_precision=True,
                    )[1]
                )
            mean = folds[0].copy()
            for probabilities in folds[1:]:
                mean += probabilities
            mean /= len(folds)
            save_segmentation_nifti_from_softmax(mean.copy(), f"{case}.nii.gz", properties, 1)
            convert_2d_segmentation_nifti_to_img(f"{case}.nii.gz", f"{case}.png")
            for file in [*channels, f"{case}.nii.gz"]:
                os.remove(file)
            np.savez_compressed(f"{case}.npz", exact=mean.squeeze(1), exact_folds=np.stack(folds).squeeze(2))
    report(target, names)


def report(target, names):
    from skimage import io

    for name in names:
        labels, mean = io.imread(target / f"{name}.png"), np.load(target / f"{name}.npz")["exact"]
        shares = np.bincount(labels.ravel(), minlength=len(fields.CLASSES)) / labels.size
        assert (mean.argmax(0) == labels).all() and np.abs(mean.sum(0) - 1).max() < 1e-4
        print(f"{target.parent.name} {target.name} {name} {labels.shape}: classes {np.round(shares, 3)}", flush=True)


def write_network(trainers, pictures, name, path):
    """One tile of a picture and the logits of each fold's network."""
    import torch
    from safetensors.torch import save_file
    from skimage import io

    side = int(trainers[0].patch_size[0])
    pixels = io.imread(pictures / f"{name}.png")[5 : 5 + side, 7 : 7 + side]
    tile = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / 255)[None]
    tensors = {"input": tile}
    for fold, trainer in enumerate(trainers):
        trainer.network.do_ds = False
        with torch.no_grad():
            tensors[f"fold_{fold}"] = trainer.network(tile).clone()
    save_file(tensors, path)


if __name__ == "__main__":
    main()
