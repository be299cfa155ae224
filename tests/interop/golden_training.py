#!/usr/bin/env python3
"""Writes learning/tests/golden/training.json: nnU-Net's loss and ten SGD steps of its networks, by PyTorch.

    python tests/interop/golden_training.py > learning/tests/golden/training.json

Weights, pixels and labels come from a small generator that the Rust test repeats, so the file holds results only.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from lcg import Numbers
from plain_conv_unet import build, own_names

SIDE, BATCH, STEPS = 16, 2, 10
RATE, MOMENTUM, DECAY, CLIP, ITERATIONS = 0.05, 0.99, 3e-5, 12.0, 10


def fill(name, shape, numbers):
    """Initial values of a tensor: computed in float64, stored as float32."""
    def value():
        u = numbers.unit()
        if len(shape) == 4:
            return (u - 0.5) * 2 * math.sqrt(6 / (shape[1] * shape[2] * shape[3]))
        if name.endswith("running_var"):
            return 0.5 + u
        if name.endswith("norm.weight"):
            return 1 + (u - 0.5) * 0.5
        return (u - 0.5) * 0.2

    flat = [value() for _ in range(math.prod(shape))]
    return torch.tensor(np.array(flat, dtype=np.float32)).reshape(shape)


def loss_of(logits, labels):
    """nnU-Net v2's DC_and_CE_loss with an ignore label, batch Dice, no background, smooth 1e-5."""
    valid = labels != 255
    target = torch.where(valid, labels, 0)
    ce = F.cross_entropy(logits, labels, ignore_index=255)
    mask = valid[:, None].float()
    p = torch.softmax(logits, 1) * mask
    y = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float() * mask
    axes = (0, 2, 3)
    intersect, pred, gt = (p * y).sum(axes)[1:], p.sum(axes)[1:], y.sum(axes)[1:]
    dice = (2 * intersect + 1e-5) / torch.clip(pred + gt + 1e-5, 1e-8)
    return ce - dice.mean()


def deep_loss(outputs, labels):
    weights = [0.5**i for i in range(len(outputs))]
    weights[-1] = 0
    total = 0
    for weight, logits in zip(weights, outputs):
        if weight:
            small = F.interpolate(labels[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
            total = total + weight / sum(weights) * loss_of(logits, small)
    return total


def architecture(norm, encoder):
    if encoder == "residual":
        # A projection with and without averaging, averaging alone, and neither.
        return {
            "input_channels": 3, "classes": 3, "features": [4, 6, 6, 8], "strides": [1, 1, 2, 2], "encoder": encoder,
            "convs": [1, 2, 1, 2], "decoder_convs": [1, 1, 1], "norm": norm, "bias": True,
        }
    return {
        "input_channels": 3, "classes": 3, "features": [4, 6, 8, 10], "strides": [1, 2, 2, 2],
        "convs": [2, 1, 2, 2], "decoder_convs": [2, 1, 2], "norm": norm, "bias": True,
    }


def data():
    numbers = Numbers(99)
    x = torch.tensor(np.array([numbers.unit() for _ in range(BATCH * 3 * SIDE * SIDE)], dtype=np.float32))
    labels = torch.tensor([[0, 1, 2, 255][int(numbers.unit() * 4)] for _ in range(BATCH * SIDE * SIDE)])
    return x.reshape(BATCH, 3, SIDE, SIDE), labels.reshape(BATCH, SIDE, SIDE)


def train(norm, frozen, encoder="plain"):
    arch = architecture(norm, encoder)
    net = build(arch, deep_supervision=True)
    numbers = Numbers(7)
    state = net.state_dict()
    net.load_state_dict({n: fill(n, list(state[n].shape), numbers) for n in sorted(own_names(net))}, strict=False)
    net.train()
    if frozen:
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    optimiser = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    x, labels = data()
    losses = []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / ITERATIONS) ** 0.9
        optimiser.zero_grad()
        loss = deep_loss(net(x), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        losses.append(loss.item())
    after = {n: net.state_dict()[n].double().flatten() for n in sorted(own_names(net))}
    tensors = {n: [t.sum().item(), (t * t).sum().item(), t[0].item(), t[-1].item()] for n, t in after.items()}
    run = {"encoder": encoder, "norm": norm, "frozen": frozen, "losses": losses, "tensors": tensors}
    if norm == "batch":
        # Two batches: the one that was trained on, and its mirror image.
        torch.optim.swa_utils.update_bn([x, x.flip(3)], net)
        names = [n for n in sorted(own_names(net)) if "running" in n]
        after = {n: net.state_dict()[n].double().flatten() for n in names}
        run["estimated"] = {n: [t.sum().item(), (t * t).sum().item()] for n, t in after.items()}
    return run


def loss_case():
    numbers = Numbers(5)
    values = [(numbers.unit() - 0.5) * 6 for _ in range(2 * 3 * 5 * 4)]
    logits = torch.tensor(np.array(values, dtype=np.float32)).reshape(2, 3, 5, 4).requires_grad_()
    labels = torch.tensor([[0, 1, 2, 255][int(numbers.unit() * 4)] for _ in range(2 * 5 * 4)]).reshape(2, 5, 4)
    loss = loss_of(logits, labels)
    loss.backward()
    return {"loss": loss.item(), "gradient": [float(g) for g in logits.grad.flatten()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    runs = [train("batch", False), train("batch", True), train("instance", False)]
    runs += [train("batch", False, "residual"), train("instance", False, "residual")]
    json.dump({"torch": torch.__version__, "loss": loss_case(), "runs": runs}, sys.stdout, indent=1)
    print()
