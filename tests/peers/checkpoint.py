"""Checks the reading of checkpoints and pickles against PyTorch and Python, which write the files.

    python3 -m venv venv && venv/bin/pip install blake3 numpy torch nnunetv2
    cargo build -p consilium-learning --example checkpoint
    venv/bin/python tests/peers/checkpoint.py target/debug/examples/checkpoint

Files of torch.save (zip and the older layout, several pickle protocols) and of pickle (protocols 0 to 5) must be read
with the values that Python has: every tensor's, every text and number. Checkpoints are also written by nnU-Net's own
trainer. Files that would run something must be refused by name, and what they would have done must not be done.
"""

import builtins
import collections
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import tempfile

import numpy
import torch
from blake3 import blake3

TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
         "uint16", "uint32", "uint64"]


def bits(number):
    return struct.pack(">d", number).hex()


def shown(value):
    """What the example must print."""
    if value is None or isinstance(value, (bool, str, numpy.str_)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, numpy.bool_):
        return bool(value)
    if isinstance(value, (int, numpy.integer)):
        return int(value)
    if isinstance(value, (float, numpy.floating)):
        return {"float": bits(float(value))}
    if isinstance(value, torch.Tensor):
        values = value.detach().to(torch.float32).contiguous()
        digest = blake3(values.numpy().tobytes()).hexdigest()
        return {"shape": list(value.shape), "type": str(value.dtype)[6:], "blake3": digest}
    if isinstance(value, numpy.ndarray):
        return shown_array(value)
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": list(value)}
    if isinstance(value, dict):
        return {"dict": [[shown(key), shown(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [shown(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [shown(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": [shown(item) for item in value]}
    if isinstance(value, pathlib.PurePath):
        return {"path": str(value)}
    if isinstance(value, torch.device):
        arguments = [value.type] if value.index is None else [value.type, value.index]
        return {"name": "torch.device", "arguments": arguments}
    if isinstance(value, torch.dtype):
        return {"name": str(value), "arguments": []}
    raise TypeError(type(value))


def shown_array(value):
    if value.dtype.kind in "UO":
        return [shown(item) for item in value]
    flat = value.ravel(order="C").tolist()
    if value.dtype.kind == "f":
        return {"shape": list(value.shape), "floats": [bits(item) for item in flat]}
    return {"shape": list(value.shape), "ints": [int(item) for item in flat]}


def normal(value):
    """Sets have no order."""
    if isinstance(value, dict):
        value = {key: normal(item) for key, item in value.items()}
        if "set" in value:
            value["set"].sort(key=json.dumps)
    return [normal(item) for item in value] if isinstance(value, list) else value


class Reader:
    def __init__(self, program):
        self.program = program
        self.read = self.refused = 0

    def run(self, path, plain):
        command = [self.program, *(["--pickle"] if plain else []), str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def check(self, name, path, value, plain=False):
        done = self.run(path, plain)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert normal(json.loads(done.stdout)) == normal(shown(value)), f"{name}: read with other values"
        self.read += 1

    def check_refused(self, name, path, words, plain):
        done = self.run(path, plain)
        assert done.returncode == 1, f"{name}: {done.returncode} {done.stdout} {done.stderr}"
        assert "panicked" not in done.stderr, f"{name}: {done.stderr}"
        assert all(word in done.stderr for word in words), f"{name}: {done.stderr}"
        self.refused += 1


def tensors():
    """Tensors of all types and layouts; some share a storage."""
    generator = torch.Generator().manual_seed(7)
    numbers = torch.rand((6, 5, 4), generator=generator) * 100
    saved = {name: numbers.to(getattr(torch, name)) for name in TYPES}
    wide = torch.randn((40, 30), generator=generator)
    saved |= {
        "shared": [wide, wide[3:7], wide[:, 4], wide.t(), wide[::3, 1::2], wide.view(30, 40), wide[5, 6]],
        "permuted": numbers.permute(2, 0, 1),
        "channels last": torch.randn((2, 3, 8, 8), generator=generator).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros((0, 3)),
        "special": torch.tensor([float("inf"), float("-inf"), -0.0, 1e-42]),
        "parameter": torch.nn.Parameter(torch.randn(3, generator=generator)),
        "large": torch.randn((700, 800), generator=generator),
        "large half": torch.randn((700, 800), generator=generator).half().t(),
    }
    return saved


def plain():
    """Values as nnU-Net's plans hold them, and all kinds of others."""
    generator = numpy.random.default_rng(7)
    shared = ["a", "b"]
    return {
        "numbers": [0, 1, -1, 255, 256, 65535, 65536, -70000, 2**31, -2**31, 2**40, 2**63 - 1, -2**63, 1.5, -0.0, 1e300],
        "odd": [float("inf"), None, True, False, b"", b"bytes\x00\xff", bytearray(b"more"), "", "ä € 😀 \n \\u", "x" * 300],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, (4, [5]))],
        "sets": [{1, 2, 3}, frozenset("ab"), set()],
        "dicts": collections.OrderedDict([("b", 1), ("a", {1: 2, (3, 4): "five"})]),
        "default": collections.defaultdict(list, {"x": [1]}),
        "shared": [shared, shared, {"again": shared}],
        "paths": [pathlib.PurePosixPath("/data/raw/x"), pathlib.Path("a/b")],
        "scalars": [numpy.float64(1.25), numpy.float32(0.1), numpy.int64(-5), numpy.uint8(200), numpy.bool_(True),
                    numpy.str_("läuft"), numpy.float16(0.5)],
        "arrays": [generator.normal(size=shape).astype(kind) for shape in [(3,), (2, 3), (2, 3, 4), (0, 2), ()]
                   for kind in ("f8", "f4", "f2")],
        "whole arrays": [numpy.arange(-6, 6).reshape(3, 4).astype(kind) for kind in ("i8", "i4", "i2", "i1")],
        "more arrays": [numpy.array([True, False]), numpy.arange(5, dtype=">i4"), numpy.arange(5.0).astype(">f8"),
                        numpy.asfortranarray(numpy.arange(24).reshape(2, 3, 4)), numpy.arange(20)[::3],
                        numpy.array(["case_1", "case_22"]), numpy.array([None, "x", 1], dtype=object)],
        "plans_per_stage": {0: {"patch_size": numpy.array([512, 512]), "batch_size": 8,
                                "pool_op_kernel_sizes": [[2, 2]] * 7, "do_dummy_2D_data_aug": False}},
    }


def check_sound(reader, folder):
    path = folder / "file"
    for zipped in (True, False):
        for protocol in (2, 3, 4, 5):
            for name, value in {"tensors": tensors(), "plain": plain()}.items():
                if not zipped:
                    # The older layout knows no newer types.
                    value = {key: item for key, item in value.items() if key not in ("uint16", "uint32", "uint64")}
                torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
                reader.check(f"{name}, zip {zipped}, protocol {protocol}", path, value)
    for protocol in range(6):
        path.write_bytes(pickle.dumps(plain(), protocol))
        reader.check(f"pickle of protocol {protocol}", path, plain(), plain=True)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ConvTranspose2d(8, 4, 2))
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3, 8, 8)).sum().backward()
    optimiser.step()
    saved = {"weights": model.state_dict(), "optimiser": optimiser.state_dict(), "parameters": list(model.parameters()),
             "size": torch.Size([1, 2]), "device": torch.device("cuda", 0), "type": torch.float16}
    torch.save(saved, path)
    reader.check("a model and its optimiser", path, saved)


def check_nnunet(reader, folder):
    """A checkpoint as nnU-Net's trainer writes it, and one with the layout of version 1."""
    os.environ |= {f"nnUNet_{name}": str(folder) for name in ("raw", "preprocessed", "results")} | {"nnUNet_compile": "f"}
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    stages = {"n_stages": 3, "features_per_stage": [8, 16, 32], "conv_op": "torch.nn.modules.conv.Conv2d",
              "kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]], "n_conv_per_stage": [2] * 3,
              "n_conv_per_stage_decoder": [2] * 2, "conv_bias": True,
              "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
              "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
              "nonlin_kwargs": {"inplace": True}}
    network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    architecture = {"network_class_name": network, "arch_kwargs": stages,
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}
    configuration = {"data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
                     "patch_size": [32, 32], "spacing": [1.0, 1.0], "normalization_schemes": ["RGBTo01Normalization"] * 3,
                     "use_mask_for_norm": [False] * 3, "batch_dice": True, "architecture": architecture}
    plans = {"dataset_name": "Dataset001_X", "plans_name": "nnUNetPlans", "label_manager": "LabelManager",
             "original_median_spacing_after_transp": [999.0, 1.0, 1.0], "transpose_forward": [0, 1, 2],
             "foreground_intensity_properties_per_channel": {"0": {"mean": 1.5}}, "configurations": {"2d": configuration}}
    dataset = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "tumour": 1},
               "numTraining": 4, "file_ending": ".png"}
    # The trainer tells the kind of its data by a file there.
    data = folder / "Dataset001_X" / "x"
    data.mkdir(parents=True)
    (data / "case.npz").touch()
    trainer = nnUNetTrainer(plans | {"continue_training": False}, "2d", 0, dataset, device=torch.device("cpu"))
    trainer.initialize()
    images = torch.rand((2, 3, 32, 32))
    sum(output.square().mean() for output in trainer.network(images)).backward()
    trainer.optimizer.step()
    for epoch in range(2):
        trainer.logger.log("mean_fg_dice", numpy.float64(0.5 + epoch), epoch)
        trainer.logger.log("dice_per_class_or_region", [numpy.float32(0.25)], epoch)
        trainer.logger.log("train_losses", numpy.float32(1.5), epoch)
    path = folder / "checkpoint_final.pth"
    trainer.save_checkpoint(str(path))
    saved = torch.load(path, weights_only=False)
    assert saved["init_args"]["plans"] == plans
    reader.check("a checkpoint of nnU-Net v2", path, saved)
    older = {"epoch": 5, "state_dict": saved["network_weights"], "optimizer_state_dict": saved["optimizer_state"],
             "lr_scheduler_state_dict": None, "plot_stuff": ([numpy.float32(0.5)], [1.0], [], [0.1]),
             "best_stuff": (numpy.float64(0.5), 1.0, 2.0)}
    for zipped in (True, False):
        torch.save(older, folder / "model_final_checkpoint.model", _use_new_zipfile_serialization=zipped)
        reader.check("a checkpoint of nnU-Net v1", folder / "model_final_checkpoint.model", older)
    settings = collections.OrderedDict(init=("plans.pkl", 0, pathlib.Path("/out"), "dir", True), name="nnUNetTrainerV2_BN",
                                       plans=plain())
    settings["class"] = "<class 'nnUNetTrainerV2_BN'>"
    path = folder / "model_final_checkpoint.model.pkl"
    path.write_bytes(pickle.dumps(settings, 4))
    reader.check("the settings of nnU-Net v1", path, settings, plain=True)


class Runs:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def check_malicious(reader, folder):
    mark = folder / "was-run"
    write = f"open({str(mark)!r}, 'w').close()"
    attacks = {
        "system": (Runs(os.system, f"touch {mark}"), ["system"]),
        "eval": (Runs(eval, write), ["builtins.eval"]),
        "exec": (Runs(exec, write), ["builtins.exec"]),
        "getattr": (Runs(getattr, os, "system"), []),
        "open": (Runs(open, str(mark), "w"), ["open"]),
        "touch": (Runs(pathlib.Path.touch, mark), []),
        "popen": (Runs(subprocess.Popen, ["touch", str(mark)]), ["Popen"]),
        "nested": ({"weights": [Runs(collections.OrderedDict, [("a", Runs(os.system, f"touch {mark}"))])]}, ["system"]),
        "load": (Runs(torch.storage._load_from_bytes, b"x"), ["_load_from_bytes"]),
        "import": (Runs(builtins.__import__, "os"), ["builtins.__import__"]),
    }
    path = folder / "file"
    for name, (value, words) in attacks.items():
        if name == "getattr":
            # A module cannot be pickled: by hand, as an attacker would.
            content = b"cbuiltins\ngetattr\n(cposix\nsystem\nVsystem\ntR."
            path.write_bytes(content)
            reader.check_refused(name, path, ["asks to run `builtins.getattr`", "nothing was run"], plain=True)
            continue
        for protocol in range(6):
            path.write_bytes(pickle.dumps(value, protocol))
            reader.check_refused(f"{name}, protocol {protocol}", path, ["nothing was run", *words], plain=True)
        for zipped in (True, False):
            torch.save({"state_dict": value}, path, _use_new_zipfile_serialization=zipped)
            reader.check_refused(f"{name}, zip {zipped}", path, ["nothing was run", *words], plain=False)
    assert not mark.exists(), "a payload was run"
    # The payload is a sound one: Python itself would have run it.
    pickle.loads(pickle.dumps(attacks["system"][0]))
    assert mark.exists()


def main():
    reader = Reader(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_sound(reader, folder)
        check_malicious(reader, folder)
        check_nnunet(reader, folder)
    print(f"{reader.read} files read with the values of PyTorch and Python; {reader.refused} refused, nothing was run")


if __name__ == "__main__":
    main()
