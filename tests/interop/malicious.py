#!/usr/bin/env python3
"""Checkpoints that run code when Python unpickles them, for showing that our import refuses them and runs nothing.

    python tests/interop/malicious.py OUT [--site target/release/consilium-site] [--only CASE]

OUT/CASE/model is a result folder of nnU-Net in which one file is poisoned; unpickling it would create OUT/CASE/marker.
`harmless` is the same folder without poison. Each case is first given to PyTorch or pickle in a process of its own,
which must create the marker (else the case would prove nothing); the marker is then removed. With --site the program is
asked to import every case: it must accept the harmless ones, refuse the others with a message and an exit code of its
own, and leave neither a marker nor a bundle. Ends with 1 if it does not.
"""

import argparse
import collections
import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile

import torch

from plain_conv_unet import build

ARCHITECTURE = {
    "input_channels": 3,
    "features": [4, 8],
    "strides": [1, 2],
    "convs": [2, 2],
    "decoder_convs": [2],
    "classes": 2,
    "norm": "instance",
    "bias": True,
}
# Exit codes that mean a panic or a signal, not a refusal.
PANIC = 101


class Calls:
    """Unpickled as the result of a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--site", type=pathlib.Path, help="the program consilium-site")
    parser.add_argument("--only", choices=list(CASES), action="append", help="these cases only")
    args = parser.parse_args()
    out = args.out.resolve()
    failed = 0
    # With --site the harmless ones always come first: a program that refuses everything proves nothing.
    names = [name for name in CASES if args.site and name.startswith("harmless")] + (args.only or list(CASES))
    for name in dict.fromkeys(names):
        make = CASES[name]
        case = out / name
        shutil.rmtree(case, ignore_errors=True)
        (case / "model").mkdir(parents=True)
        marker = case / "marker"
        kind, poisoned, harm = make(case / "model", marker)
        assert not marker.exists(), f"{name}: making it ran it"
        if harm:
            unpickle(poisoned)
            assert marker.exists(), f"{name}: Python does not fall for it, so it proves nothing"
            marker.unlink()
        verdict = "made"
        if args.site:
            verdict = try_import(args.site.resolve(), case, kind, marker, name.startswith("harmless"))
            failed += not verdict.startswith("ok")
        print(f"{name:28} {poisoned.relative_to(case)}: {verdict}", flush=True)
    return 1 if failed else 0


def unpickle(path):
    """Loads a file as nnU-Net does, in another process; that it may fail afterwards does not matter."""
    code = (
        "import pickle, sys, torch; p = sys.argv[1]; "
        "print(pickle.load(open(p, 'rb')) if p.endswith('.pkl') else torch.load(p, weights_only=False))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(path)], capture_output=True)


def try_import(site, case, kind, marker, harmless):
    bundle = case / "bundle"
    words = [site, "import", kind, case / "model", "--out", bundle, "--spacing-um", "0.5"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if marker.exists():
        return "FAILED: the poison was run"
    if harmless:
        good = done.returncode == 0 and (bundle / "ensemble.json").exists()
        return "ok, accepted" if good else f"FAILED: refused with {done.returncode}: {said}"
    if done.returncode in (0, PANIC) or done.returncode < 0 or "panicked" in done.stderr:
        return f"FAILED: ended with {done.returncode}: {said}"
    if (bundle / "ensemble.json").exists():
        return "FAILED: a bundle was left"
    return f"ok, refused: {said}" if said else "FAILED: refused without a word"


def touch(marker):
    return f"touch '{marker}'"


def write_python(marker):
    return f"open({str(marker)!r}, 'w').close()"


# nnU-Net v2: a whole checkpoint of a tiny network with the poison at some place.


def checkpoint():
    network = build(ARCHITECTURE)
    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99)
    plans, dataset = v2_documents()
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "grad_scaler_state": None,
        "logging": {"train_losses": [0.5]},
        "_best_ema": None,
        "current_epoch": 1,
        "init_args": {
            "plans": plans,
            "configuration": "2d",
            "fold": 0,
            "dataset_json": dataset,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


def v2_documents():
    """plans.json and dataset.json as nnU-Net 2.8 writes them."""
    stages = len(ARCHITECTURE["features"])
    arguments = {
        "n_stages": stages,
        "features_per_stage": ARCHITECTURE["features"],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[stride, stride] for stride in ARCHITECTURE["strides"]],
        "n_conv_per_stage": ARCHITECTURE["convs"],
        "n_conv_per_stage_decoder": ARCHITECTURE["decoder_convs"],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 32],
        "median_image_size_in_voxels": [32.0, 32.0],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["RGBTo01Normalization"] * 3,
        "use_mask_for_norm": [False] * 3,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling | {"order": 3},
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    plans = {
        "dataset_name": "Dataset599_Poison",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 32, 32],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }
    dataset = {
        "channel_names": {str(channel): "rgb_to_0_1" for channel in range(3)},
        "labels": {"background": 0, "nucleus": 1},
        "numTraining": 1,
        "file_ending": ".png",
    }
    return plans, dataset


def v2_folder(model):
    plans, dataset = v2_documents()
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    (model / "fold_0").mkdir()
    return model / "fold_0" / "checkpoint_final.pth"


def v2(poison=None, place="init_args", zipped=True):
    """A case: `poison(marker)` put at a place of the checkpoint."""

    def make(model, marker):
        path, whole = v2_folder(model), checkpoint()
        if poison:
            if place == "top":
                whole = poison(marker)
            elif place == "weight":
                whole["network_weights"]["decoder.seg_layers.0.bias"] = poison(marker)
            else:
                whole[place]["extra"] = poison(marker)
        torch.save(whole, path, _use_new_zipfile_serialization=zipped)
        return "nnunet-v2", path, poison is not None

    return make


def v2_pickle(write, harm=True):
    """A case whose data.pkl is written by hand: the checkpoint, but for the bytes that `write(marker)` puts first."""

    def make(model, marker):
        path, buffer = v2_folder(model), io.BytesIO()
        torch.save(checkpoint(), buffer)
        source = zipfile.ZipFile(buffer)
        with zipfile.ZipFile(path, "w") as target:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename.endswith("data.pkl"):
                    # Behind PROTO, of which 4 allows dotted names: what is pushed there is popped again, and the rest
                    # follows as it was.
                    assert content[:1] == pickle.PROTO
                    content = pickle.PROTO + b"\x04" + write(marker) + content[2:]
                target.writestr(entry.filename, content)
        return "nnunet-v2", path, harm

    return make


def text(value):
    encoded = str(value).encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def dotted(marker):
    """STACK_GLOBAL with a dotted name: `os.system` reached through a module of torch's own."""
    name = text("torch") + text("serialization.os.system")
    return name + pickle.STACK_GLOBAL + text(touch(marker)) + pickle.TUPLE1 + pickle.REDUCE + pickle.POP


def old_instance(marker):
    """INST: a call of protocol 0, with its arguments on the stack."""
    return pickle.MARK + text(touch(marker)) + pickle.INST + b"os\nsystem\n" + pickle.POP


def old_object(marker):
    """OBJ: the same with the callable on the stack."""
    return pickle.MARK + pickle.GLOBAL + b"os\nsystem\n" + text(touch(marker)) + pickle.OBJ + pickle.POP


def numpy_code(marker):
    """A function deep in NumPy that evaluates text."""
    import numpy.f2py.crackfortran as numpys

    return Calls(numpys.myeval, f"[{write_python(marker)}, 0.0][1]", {"open": open})


def nested_bytes(marker):
    """torch.storage._load_from_bytes, which old checkpoints contain, unpickles its argument without a check."""
    return Calls(torch.storage._load_from_bytes, saved(marker))


def nested_load(marker):
    """torch.load of a checkpoint inside the checkpoint."""
    import functools

    return Calls(functools.partial(torch.load, weights_only=False), io.BytesIO(saved(marker)))


def nested_array(marker):
    """numpy.load of an array of objects, whose own pickle carries the poison."""
    import functools

    import numpy

    buffer = io.BytesIO()
    array = numpy.empty(1, object)
    array[0] = Calls(os.system, touch(marker))
    numpy.save(buffer, array, allow_pickle=True)
    return Calls(functools.partial(numpy.load, allow_pickle=True), io.BytesIO(buffer.getvalue()))


def saved(marker):
    buffer = io.BytesIO()
    torch.save(Calls(os.system, touch(marker)), buffer)
    return buffer.getvalue()


# nnU-Net v1: plans are pickles too.


def v1(poison=None, where="plans.pkl"):
    def make(model, marker):
        fold = model / "fold_0"
        fold.mkdir()
        plans = v1_plans()
        info = collections.OrderedDict(init=("plans.pkl", 0), name="nnUNetTrainerV2", plans=plans)
        info["class"] = "<class 'nnunet.training.network_training.nnUNetTrainerV2.nnUNetTrainerV2'>"
        files = {"plans.pkl": plans, "fold_0/model_final_checkpoint.model.pkl": info}
        if poison:
            files[where]["extra"] = poison(marker)
        for name, content in files.items():
            (model / name).write_bytes(pickle.dumps(content))
        weights = {"epoch": 1, "state_dict": v1_weights(), "optimizer_state_dict": None}
        weights |= {"lr_scheduler_state_dict": None, "plot_stuff": ([], [], [], []), "best_stuff": (None, None, None)}
        torch.save(weights, fold / "model_final_checkpoint.model")
        return "nnunet-v1", model / where, poison is not None

    return make


def v1_plans():
    import numpy

    stage = {
        "batch_size": 2,
        "num_pool_per_axis": [2, 2],
        "patch_size": numpy.array([32, 32]),
        "median_patient_size_in_voxels": numpy.array([1, 32, 32]),
        "current_spacing": numpy.array([999.0, 1.0, 1.0]),
        "original_spacing": numpy.array([999.0, 1.0, 1.0]),
        "pool_op_kernel_sizes": [[2, 2], [2, 2]],
        "conv_kernel_sizes": [[3, 3]] * 3,
        "do_dummy_2D_data_aug": False,
    }
    return {
        "num_stages": 1,
        "num_modalities": 3,
        "modalities": {0: "R", 1: "G", 2: "B"},
        "normalization_schemes": collections.OrderedDict({channel: "nonCT" for channel in range(3)}),
        "dataset_properties": {"all_classes": [1], "intensityproperties": None},
        "num_classes": 1,
        "all_classes": [1],
        "base_num_features": 4,
        "use_mask_for_norm": collections.OrderedDict({channel: False for channel in range(3)}),
        "keep_only_largest_region": None,
        "min_region_size_per_class": None,
        "min_size_per_class": None,
        "transpose_forward": [numpy.int64(0), 1, 2],
        "transpose_backward": [numpy.int64(0), numpy.int64(1), numpy.int64(2)],
        "data_identifier": "nnUNet_RGB_scaleTo_0_1",
        "plans_per_stage": {0: stage},
        "preprocessor_name": "GenericPreprocessor_scale_uint8_to_0_1",
    }


def v1_weights():
    """Generic_UNet with two poolings, features 4, 8, 16, InstanceNorm."""
    weights = collections.OrderedDict()

    def block(name, features_in, features):
        weights[f"{name}.conv.weight"] = torch.randn(features, features_in, 3, 3) * 0.1
        weights[f"{name}.conv.bias"] = torch.zeros(features)
        weights[f"{name}.instnorm.weight"] = torch.ones(features)
        weights[f"{name}.instnorm.bias"] = torch.zeros(features)

    for up, features in enumerate((8, 4)):
        block(f"conv_blocks_localization.{up}.0.blocks.0", 2 * features, features)
        block(f"conv_blocks_localization.{up}.1.blocks.0", features, features)
    for down, (features_in, features) in enumerate(((3, 4), (4, 8))):
        block(f"conv_blocks_context.{down}.blocks.0", features_in, features)
        block(f"conv_blocks_context.{down}.blocks.1", features, features)
    block("conv_blocks_context.2.0.blocks.0", 8, 16)
    block("conv_blocks_context.2.1.blocks.0", 16, 16)
    for up, features in enumerate((8, 4)):
        weights[f"tu.{up}.weight"] = torch.randn(2 * features, features, 2, 2) * 0.1
    for up, features in enumerate((8, 4)):
        weights[f"seg_outputs.{up}.weight"] = torch.randn(2, features, 1, 1) * 0.1
    return weights


def system(marker):
    return Calls(os.system, touch(marker))


def evaluated(marker):
    return Calls(eval, write_python(marker))


CASES = {
    "harmless": v2(),
    "harmless-v1": v1(),
    "system": v2(system),
    "system-in-weights": v2(system, "weight"),
    "system-is-everything": v2(system, "top"),
    "eval": v2(evaluated),
    "exec-in-logging": v2(lambda marker: Calls(exec, write_python(marker)), "logging"),
    "subprocess": v2(lambda marker: Calls(subprocess.call, ["touch", str(marker)])),
    "numpy-evaluates": v2(numpy_code),
    "numpy-array-of-objects": v2(nested_array),
    "nested-load": v2(nested_load),
    "nested-bytes": v2(nested_bytes),
    "legacy-format": v2(system, zipped=False),
    "dotted-name": v2_pickle(dotted),
    "old-instance": v2_pickle(old_instance),
    "old-object": v2_pickle(old_object),
    "claims-too-much": v2_pickle(lambda _: pickle.BINUNICODE8 + struct.pack("<Q", 1 << 60), harm=False),
    "v1-plans": v1(system),
    "v1-info": v1(evaluated, "fold_0/model_final_checkpoint.model.pkl"),
}


if __name__ == "__main__":
    sys.exit(main())
