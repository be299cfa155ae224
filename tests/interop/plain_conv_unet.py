#!/usr/bin/env python3
"""A member of ours in nnU-Net v2's own PlainConvUNet or ResidualEncoderUNet: are the logits the same?

    cargo run -p consilium-learning --example logits -- /tmp/logits
    python tests/interop/plain_conv_unet.py /tmp/logits

Needs torch, safetensors, numpy and dynamic_network_architectures (nnU-Net's package). Prints the largest difference and
ends with 1 if it is 1e-4 or more.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from safetensors.torch import load_file


def build(arch, deep_supervision=False):
    """The network that `architecture` of an ensemble.json describes."""
    batch = arch["norm"] == "batch"
    residual = arch.get("encoder") == "residual"
    counts = {"n_blocks_per_stage" if residual else "n_conv_per_stage": arch["convs"]}
    return (ResidualEncoderUNet if residual else PlainConvUNet)(
        **counts,
        input_channels=arch["input_channels"],
        n_stages=len(arch["features"]),
        features_per_stage=arch["features"],
        conv_op=torch.nn.Conv2d,
        kernel_sizes=3,
        strides=arch["strides"],
        num_classes=arch["classes"],
        n_conv_per_stage_decoder=arch["decoder_convs"],
        conv_bias=arch["bias"],
        norm_op=torch.nn.BatchNorm2d if batch else torch.nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )


def own_names(net):
    """Names without the aliases under which the package shows the same tensors again."""
    return [
        name
        for name in net.state_dict()
        if ".all_modules." not in name
        and not name.startswith("decoder.encoder.")
        and not name.endswith("num_batches_tracked")
    ]


def load(net, tensors):
    """Loads a member; every tensor must find its place and every place its tensor."""
    assert sorted(own_names(net)) == sorted(tensors), set(own_names(net)) ^ set(tensors)
    for name, tensor in tensors.items():
        assert net.state_dict()[name].shape == tensor.shape, name
    net.load_state_dict(tensors, strict=False)


def main(folder):
    worst = 0.0
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        manifest = json.loads((case / "ensemble.json").read_text())
        shape = json.loads((case / "shape.json").read_text())
        pixels = np.fromfile(case / "input.u8", dtype=np.uint8).reshape(shape["height"], shape["width"], 3)
        x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
        for index, member in enumerate(manifest["members"]):
            net = build(manifest["architecture"])
            load(net, load_file(case / member["file"]))
            net.eval()
            with torch.no_grad():
                theirs = net(x).numpy()
            ours = np.fromfile(case / f"logits-{index}.f32", dtype="<f4").reshape(theirs.shape)
            difference = float(np.abs(ours - theirs).max())
            worst = max(worst, difference)
            print(f"{case.name} member {index}: |logits| up to {np.abs(theirs).max():.3f}, difference {difference:.2e}")
    print(f"largest difference {worst:.2e}")
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
