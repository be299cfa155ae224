#!/usr/bin/env python3
"""Small ensembles made, trained and run by nnU-Net v2 itself, as the reference for `consilium-site import nnunet-v2`.

    python3 -m venv V && V/bin/pip install -r tests/interop/requirements.txt
    OMP_NUM_THREADS=1 V/bin/python tests/interop/nnunet_v2.py make OUT [--only NAME] [--steps N]
    V/bin/python tests/interop/compare.py OUT target/release/consilium-site

Everything goes through nnU-Net's own classes: fingerprint, planner (with few features), preprocessor, trainer (a few
dozen steps a fold), checkpoint, predictor and export. OUT then holds

    ensembles.json                     what was made and where it lies
    images/NAME.png                    the pictures that were predicted
    nnUNet_results/DatasetXXX_*/...    the trained folders as nnU-Net writes them
    reference/ENSEMBLE/network.safetensors            one input tile and what each fold makes of it
    reference/ENSEMBLE/mirror-{off,on}/NAME.png       nnU-Net's label map
    reference/ENSEMBLE/mirror-{off,on}/NAME.npz       logits: `stock` and `exact`, `stock_folds` and `exact_folds`

nnU-Net adds tiles and folds in float16, which costs about three digits. `stock` is what it gives as it is; `exact` is
the same code with float32 sums, and shows what its formulas mean.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import sys
from unittest import mock

import numpy as np

import fields

FOLDS = 5
STEPS, EPOCHS = 20, 3
# The plain ones have two convolutions a stage; the residual ones have one block first, then two.
ENSEMBLES = {
    "plain-bn-rgb": {"dataset": 501, "trainer": "nnUNetTrainerBN", "planner": "plain"},
    "plain-in-z": {"dataset": 502, "trainer": "nnUNetTrainer", "planner": "plain"},
    "resenc-in-rgb": {"dataset": 501, "trainer": "nnUNetTrainer", "planner": "resenc"},
    "resenc-bn-z": {"dataset": 502, "trainer": "nnUNetTrainerBN", "planner": "resenc"},
}
DATASETS = {
    501: ("Dataset501_NucleiRgb", ["rgb_to_0_1"] * 3),
    502: ("Dataset502_NucleiZ", ["R", "G", "B"]),
}
PLANS = {"plain": "nnUNetPlans", "resenc": "nnUNetResEncUNetMPlans"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("make", choices=["make"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", choices=list(ENSEMBLES), action="append", help="make these ensembles only")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps of each of the {EPOCHS} epochs")
    args = parser.parse_args()
    out = args.out.resolve()
    prepare_environment(out)
    images = fields.write_tested(out / "images")
    listed = []
    for name in args.only or ENSEMBLES:
        listed.append(make_ensemble(out, name, images, args.steps))
        write_list(out, listed)


def prepare_environment(out):
    """nnU-Net reads these when it is imported: its folders, and that nothing may start processes or compile."""
    for folder in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        os.environ[folder] = str(out / folder)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}


def write_list(out, listed):
    """ensembles.json, with what other scripts have put there."""
    path = out / "ensembles.json"
    before = json.loads(path.read_text()) if path.exists() else []
    names = {entry["name"] for entry in listed}
    entries = [entry for entry in before if entry["name"] not in names] + listed
    path.write_text(json.dumps(entries, indent=2) + "\n")


def make_ensemble(out, name, images, steps):
    spec = ENSEMBLES[name]
    dataset, channels = DATASETS[spec["dataset"]]
    if not (out / "nnUNet_raw" / dataset).exists():
        make_dataset(out, spec["dataset"])
    plans = PLANS[spec["planner"]]
    if not (out / "nnUNet_preprocessed" / dataset / f"{plans}.json").exists():
        plan(spec["dataset"], spec["planner"])
    for fold in range(FOLDS):
        train(dataset, spec["trainer"], plans, fold, steps)
    folder = out / "nnUNet_results" / dataset / f"{spec['trainer']}__{plans}__2d"
    reference = out / "reference" / name
    shutil.rmtree(reference, ignore_errors=True)
    for mirror in (False, True):
        predict(folder, out / "images", images, mirror, reference / f"mirror-{'on' if mirror else 'off'}")
    write_network(folder, out / "images", images[0], reference / "network.safetensors")
    return {
        "name": name,
        "kind": "nnunet-v2",
        "model": str(folder.relative_to(out)),
        "reference": str(reference.relative_to(out)),
        "averaging": "logits",
        "normalisation": "rgb_to_0_1" if channels[0] == "rgb_to_0_1" else "z_score",
        "tile_px": patch_size(folder),
        "classes": list(fields.CLASSES),
        "images": images,
    }


def patch_size(folder):
    plans = json.loads((folder / "plans.json").read_text())
    height, width = plans["configurations"]["2d"]["patch_size"]
    assert height == width, "compare.py expects square tiles"
    return height


def make_dataset(out, number):
    """The raw dataset of nnU-Net: RGB in one PNG a case."""
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
    from skimage import io

    dataset, channels = DATASETS[number]
    raw = out / "nnUNet_raw" / dataset
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    cases = list(fields.training())
    for case, pixels, labels in cases:
        io.imsave(raw / "imagesTr" / f"{case}_0000.png", pixels, check_contrast=False)
        io.imsave(raw / "labelsTr" / f"{case}.png", labels, check_contrast=False)
    generate_dataset_json(str(raw), dict(enumerate(channels)), fields.CLASSES, len(cases), ".png")


def plan(number, planner):
    """Fingerprint, plans and preprocessed cases, by nnU-Net; only the sizes of the network are ours."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
        nnUNetPlannerResEncM,
    )
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

    with quiet():
        extractor = DatasetFingerprintExtractor(number, 1)
        extractor.show_progress_bar, extractor.num_foreground_voxels_for_intensitystats = False, 1e5
        extractor.run()
        made = {"plain": ExperimentPlanner, "resenc": nnUNetPlannerResEncM}[planner](number)
        made.UNet_base_num_features, made.UNet_max_features_2d = 8, 32
        if planner == "resenc":
            made.UNet_blocks_per_stage_encoder = (1,) + (2,) * 12
        made.plan_experiment()
        preprocess([number], PLANS[planner], ["2d"], [1], show_progress_bar=False)


def train(dataset, trainer, plans, fold, steps):
    """A few dozen steps of one fold by nnU-Net's trainer, which writes its own checkpoint and folder."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.manual_seed(fold)
    np.random.seed(fold)
    # 0 processes: augmentation in this one. The planner, in turn, does not accept 0.
    with quiet(), mock.patch.dict(os.environ, {"nnUNet_n_proc_DA": "0"}):
        made = get_trainer_from_args(dataset, "2d", fold, trainer, plans, device=torch.device("cpu"))
        made.num_epochs, made.num_iterations_per_epoch, made.num_val_iterations_per_epoch = EPOCHS, steps, 1
        made.run_training()
    loss = made.logger.get_value("train_losses", step=-1)
    print(f"{dataset} {trainer} {plans} fold {fold}: loss {loss:.3f} after {EPOCHS * steps} steps", flush=True)


def predictor(folder, mirror):
    """nnU-Net's predictor of all folds; it also keeps what each fold gave."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    class Keeping(nnUNetPredictor):
        folds = None

        def predict_sliding_window_return_logits(self, input_image):
            logits = super().predict_sliding_window_return_logits(input_image)
            self.folds.append(logits.float().numpy().copy())
            return logits

    made = Keeping(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=mirror,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    made.initialize_from_trained_model_folder(str(folder), tuple(range(FOLDS)), "checkpoint_final.pth")
    return made


@contextlib.contextmanager
def float32_sums():
    """nnU-Net's sliding window with float32 where it says half."""
    import torch
    from nnunetv2.inference import predict_from_raw_data as module
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    class Torch:
        half = torch.float32

        def __getattr__(self, name):
            return getattr(torch, name)

    def gaussian(*args, **kwargs):
        return compute_gaussian(*args, **kwargs, dtype=torch.float32)

    with mock.patch.object(module, "torch", Torch()), mock.patch.object(module, "compute_gaussian", gaussian):
        yield


def predict(folder, pictures, names, mirror, target):
    """Label maps and logits of the pictures."""
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits

    target.mkdir(parents=True)
    with quiet():
        made = predictor(folder, mirror)
        preprocessor = made.configuration_manager.preprocessor_class(verbose=False)
        for name in names:
            data, _, properties = preprocessor.run_case(
                [str(pictures / f"{name}.png")], None, made.plans_manager, made.configuration_manager, made.dataset_json
            )
            assert data.shape[1:] == properties["shape_before_cropping"], "the picture has a black border"
            made.folds = []
            stock = made.predict_logits_from_preprocessed_data(torch.from_numpy(data))
            stock_folds, made.folds = made.folds, []
            with float32_sums():
                exact = made.predict_logits_from_preprocessed_data(torch.from_numpy(data))
            export_prediction_from_logits(
                stock,
                properties,
                made.configuration_manager,
                made.plans_manager,
                made.dataset_json,
                str(target / name),
                num_threads_torch=1,
            )
            arrays = {
                "stock": stock.float().numpy(),
                "exact": exact.numpy(),
                "stock_folds": np.stack(stock_folds),
                "exact_folds": np.stack(made.folds),
            }
            # One slice deep: [classes, 1, height, width] becomes [classes, height, width].
            np.savez_compressed(target / f"{name}.npz", **{key: a.squeeze(-3) for key, a in arrays.items()})
    report(target, names)


def report(target, names):
    from skimage import io

    for name in names:
        labels = io.imread(target / f"{name}.png")
        logits = np.load(target / f"{name}.npz")
        shares = np.bincount(labels.ravel(), minlength=len(fields.CLASSES)) / labels.size
        rounding = np.abs(logits["stock"] - logits["exact"]).max()
        agree = (logits["exact"].argmax(0) == labels).mean()
        print(
            f"{target.parent.name} {target.name} {name} {labels.shape}: classes {np.round(shares, 3)}, logits up to "
            f"{np.abs(logits['exact']).max():.2f}, float16 moves them by {rounding:.1e} and {1 - agree:.2%} of labels",
            flush=True,
        )


def write_network(folder, pictures, name, path):
    """One tile of a picture, normalised as for the whole picture, and the logits of each fold's network."""
    import torch
    from safetensors.torch import save_file

    with quiet():
        made = predictor(folder, False)
        preprocessor = made.configuration_manager.preprocessor_class(verbose=False)
        data, _, _ = preprocessor.run_case(
            [str(pictures / f"{name}.png")], None, made.plans_manager, made.configuration_manager, made.dataset_json
        )
    side = made.configuration_manager.patch_size[0]
    tile = torch.from_numpy(data[:, 0, 5 : 5 + side, 7 : 7 + side].copy())[None]
    tensors = {"input": tile}
    made.network.eval()
    for fold, weights in enumerate(made.list_of_parameters):
        made.network.load_state_dict(weights)
        with torch.inference_mode():
            tensors[f"fold_{fold}"] = made.network(tile).clone()
    save_file(tensors, path)


@contextlib.contextmanager
def quiet():
    """Keeps nnU-Net's own talk out of sight unless something fails."""
    import io as text

    said = text.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    except BaseException:
        sys.stderr.write(said.getvalue()[-4000:])
        raise


if __name__ == "__main__":
    main()
