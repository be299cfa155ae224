"""Speed of our engines and of PyTorch at scanning and at fine-tuning, on the same nets, in turns on the same machine.

    python3 -m venv V && V/bin/pip install torch dynamic_network_architectures numpy onnx onnxruntime monai
    cargo build --release -p consilium-learning --bench engines --message-format short
    V/bin/python tests/peers/torch_engines.py target/release/deps/engines-HASH --engines cpu,onnx

Each round runs every engine once, ours as `BENCH --once ENGINE`, PyTorch in this process (eager, channels-last, bf16 and
with --compile also compiled), MONAI's sliding_window_inference over 1,024 px with half a tile's step, and ONNX Runtime's
Python package on the model as torch.onnx exports it, which shows whether our graph loses anything. A training step is
nnU-Net's: deep supervision, cross-entropy and Dice, global clipping, Nesterov momentum; statistics are frozen, as in
fine-tuning. Prints patches/s (one member, one tile or patch), the ratio to the best fp32 of PyTorch (medians of the
rounds; for training to PyTorch eager), GFLOP/s and the share of the measured fp32 matrix peak.
"""

import argparse
import copy
import io
import os
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("bench", help="the built benchmark `engines`")
parser.add_argument("--engines", default="cpu,onnx")
parser.add_argument("--work", default="scan,train")
parser.add_argument("--bases", default="8,16,32")
parser.add_argument("--batches", default="1,4,16")
parser.add_argument("--members", type=int, default=5)
parser.add_argument("--seconds", type=float, default=1.0)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--compile", action="store_true")
parser.add_argument("--skip", default="", help="names to leave out, such as bf16 where the processor emulates it")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

torch.set_num_threads(args.threads)
SIDE, STAGES, CLASSES = 256, 5, 3


def build(base, deep_supervision=False):
    """The network of the benchmark `engines`: Architecture::plain(3, base, 5)."""
    net = PlainConvUNet(
        input_channels=3,
        n_stages=STAGES,
        features_per_stage=[base * 2**stage for stage in range(STAGES)],
        conv_op=torch.nn.Conv2d,
        kernel_sizes=3,
        strides=[1] + [2] * (STAGES - 1),
        n_conv_per_stage=2,
        num_classes=CLASSES,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=torch.nn.BatchNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    return net.eval()


def flops(net):
    """Of one tile."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        kernel = module.weight.shape[2] * module.weight.shape[3]
        places = (inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output).shape[-2:].numel()
        total += 2 * kernel * module.in_channels * module.out_channels * places

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net(torch.zeros(1, 3, SIDE, SIDE))
    for hook in hooks:
        hook.remove()
    return total


def rate(step, units):
    """Units a second, after a step that warms up."""
    step()
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < args.seconds:
        step()
        done += units
    return done / (time.perf_counter() - start)


def matrix_peak(dtype):
    """GFLOP/s of a matrix product of 2048 x 2048, the best of three."""
    a = torch.randn(2048, 2048).to(dtype)
    return max(rate(lambda: a @ a, 2 * 2048**3 / 1e9) for _ in range(3))


def ours(work, engine, base, batch):
    command = [args.bench, "--once", engine, "--work", work, "--bases", str(base), "--batches", str(batch)]
    command += ["--members", str(args.members), "--seconds", str(args.seconds)]
    return lambda: float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()[0])


def torch_engines(net, tiles):
    """Name, precision and a measurement of each way to run it; pixels are bytes, as they come from a slide."""

    def prepared(pixels):
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def plain():
        return torch.softmax(net(prepared(tiles).contiguous()), 1)

    last = copy.deepcopy(net).to(memory_format=torch.channels_last)

    def channels_last():
        return torch.softmax(last(prepared(tiles)), 1)

    def bf16():
        with torch.autocast("cpu", torch.bfloat16):
            return torch.softmax(last(prepared(tiles)).float(), 1)

    found = [("torch eager", "fp32", plain), ("torch channels-last", "fp32", channels_last), ("torch bf16", "bf16", bf16)]
    if args.compile:
        compiled = torch.compile(last)
        found.append(("torch compiled", "fp32", lambda: torch.softmax(compiled(prepared(tiles)), 1)))
    runs = [(name, kind, without_gradients(step, len(tiles))) for name, kind, step in found]
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return runs
    region = torch.rand(1, 3, 1024, 1024)

    def monai():
        return sliding_window_inference(region, SIDE, len(tiles), net, overlap=0.5, mode="gaussian")

    return [*runs, ("monai sliding window", "fp32", without_gradients(monai, 7 * 7))]


def without_gradients(step, units):
    def run():
        with torch.no_grad():
            return rate(step, units)

    return run


def loss(levels, labels):
    """nnU-Net's: cross-entropy minus soft Dice of the foreground over the batch, at every level but the coarsest."""
    weights = [0.5**i for i in range(len(levels))]
    weights[-1] = 0
    total = 0
    for logits, weight in zip(levels, weights):
        if weight == 0:
            continue
        step = labels.shape[-1] // logits.shape[-1]
        target = labels[:, step // 2 :: step, step // 2 :: step]
        p = torch.softmax(logits.float(), 1)[:, 1:]
        hit = torch.nn.functional.one_hot(target, CLASSES).permute(0, 3, 1, 2)[:, 1:].float()
        both, sums = (p * hit).sum((0, 2, 3)), p.sum((0, 2, 3)) + hit.sum((0, 2, 3))
        dice = ((2 * both + 1e-5) / (sums + 1e-5).clamp_min(1e-8)).mean()
        total = total + weight / sum(weights) * (torch.nn.functional.cross_entropy(logits.float(), target) - dice)
    return total


def torch_trainings(base, batch):
    """Name, precision and a measurement of each way to fine-tune."""
    pixels = torch.rand(batch, 3, SIDE, SIDE)
    labels = torch.randint(0, CLASSES, (batch, SIDE, SIDE))

    def training(kind, last):
        net = build(base, deep_supervision=True).train()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        x = pixels
        if last:
            net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)

        def step():
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
                levels = net(x)
            loss(levels, labels).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
            optimiser.step()

        return lambda: rate(step, batch)

    ways = [("torch eager", "eager", False), ("torch channels-last", "fp32", True), ("torch bf16", "bf16", True)]
    return [(name, kind, training(kind, last)) for name, kind, last in ways]


def exported(net, tiles):
    """ONNX Runtime's own package on the exported model; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    file = io.BytesIO()
    names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    torch.onnx.export(net, torch.zeros(1, 3, SIDE, SIDE), file, dynamo=False, **names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    x = (tiles.permute(0, 3, 1, 2).to(torch.float32) / 255).contiguous().numpy()
    return lambda: rate(lambda: session.run(None, {"x": x}), len(tiles))


def compare(work, base, batch, peak):
    """Prints one row for each way to do a work."""
    net = build(base)
    cost = flops(net) / 1e9 * (1 if work == "scan" else 3)
    names = [name for name in args.engines.split(",") if work == "scan" or name != "onnx"]
    runs = [(name, "ours", ours(work, name, base, batch)) for name in names]
    if work == "scan":
        tiles = torch.randint(0, 256, (batch, SIDE, SIDE, 3), dtype=torch.uint8)
        runs += torch_engines(net, tiles)
        other = exported(net, tiles)
        if other:
            runs.append(("onnxruntime, exported", "onnx", other))
    else:
        runs += torch_trainings(base, batch)
    skipped = [word for word in args.skip.split(",") if word]
    runs = [run for run in runs if not any(word in run[0] for word in skipped)]
    rounds = [[run() for _, _, run in runs] for _ in range(args.rounds)]
    measure = "fp32" if work == "scan" else "eager"
    for index, (name, _, _) in enumerate(runs):
        best = [max(r[i] for i, run in enumerate(runs) if run[1] == measure) for r in rounds]
        speed = statistics.median(r[index] for r in rounds)
        ratio = statistics.median(r[index] / b for r, b in zip(rounds, best))
        share = speed * cost / peak
        row = f"{work:>5} {base:>4} {batch:>5} {name:>24} {speed:>10.2f} {speed * cost:>8.1f} {share:>8.0%} {ratio:>12.2f}"
        print(row, flush=True)


def main():
    peak = matrix_peak(torch.float32)
    print(f"{args.threads} threads, torch {torch.__version__}, {args.members} members of ours, {args.rounds} rounds")
    print(f"matrix peak: fp32 {peak:.0f} GFLOP/s, bf16 {matrix_peak(torch.bfloat16):.0f} GFLOP/s")
    print(f"{'work':>5} {'base':>4} {'batch':>5} {'engine':>24} {'patches/s':>10} {'GFLOP/s':>8} {'of peak':>8} {'x torch':>12}")
    for work in args.work.split(","):
        for base in map(int, args.bases.split(",")):
            for batch in map(int, args.batches.split(",")):
                compare(work, base, batch, peak)


main()
