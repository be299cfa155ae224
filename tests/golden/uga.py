"""Golden vectors for learning/tests/golden.rs, computed with NumPy and SciPy alone.

Written from the published definitions of UGA and nnU-Net v1, not from the Rust code. Run it from anywhere:

    pip install numpy scipy
    python tests/golden/uga.py

It rewrites learning/tests/golden/uga.json. Same NumPy, same bytes: the seed is fixed and numbers are rounded.
"""

import json
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

OUT = Path(__file__).resolve().parents[2] / "learning" / "tests" / "golden" / "uga.json"
MEMBERS, CLASSES, HEIGHT, WIDTH = 5, 3, 24, 20
PATCH = 8


def member_probabilities(rng):
    """[members, classes, height, width]: smooth agreement on the left, contradiction on the right, some saturated."""
    logits = gaussian_filter(rng.normal(0, 6, (1, CLASSES, HEIGHT, WIDTH)), (0, 0, 2, 2))
    own = rng.normal(0, 1, (MEMBERS, CLASSES, HEIGHT, WIDTH)) * np.linspace(0.05, 5, WIDTH)
    logits = logits + own
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    p[:, :, 0, :4] = np.array([1.0, 0.0, 0.0]).reshape(1, 3, 1)  # all certain and alike
    p[0, :, 1, :4] = np.array([0.0, 1.0, 0.0]).reshape(3, 1)  # one certain against four certain
    p[1:, :, 1, :4] = np.array([1.0, 0.0, 0.0]).reshape(1, 3, 1)
    return np.round(p, 6)


def uga_uncertainty(p):
    """U = 1/M sum_m [ - sum_c pbar_c ln(p_mc + 1e-8) ]."""
    mean = p.mean(axis=0)
    return np.mean([-(mean * np.log(member + 1e-8)).sum(axis=0) for member in p], axis=0)


def entropy(p, axis):
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=axis)


def mutual_information(p):
    return entropy(p.mean(axis=0), 0) - entropy(p, 1).mean(axis=0)


def quantise(u):
    return (np.clip(u, 0, 4) / 4 * 255).astype(np.uint8)


def patch_scores(u8):
    """UGA's table over side-by-side patches: x, y, max_uncertain, uncertainty_score."""
    rows = []
    for y in range(0, HEIGHT - PATCH + 1, PATCH):
        for x in range(0, WIDTH - PATCH + 1, PATCH):
            patch = u8[y : y + PATCH, x : x + PATCH]
            if patch.max() == 0:
                continue
            hot = int((patch > 0.8 * patch.max()).sum())
            rows.append({"x": x, "y": y, "max_uncertain": hot, "uncertainty_score": int(patch.sum(dtype=np.int64))})
    return rows


def float_scores(u, h, tissue):
    """Mean of U and of H over the tissue of each box of a half-patch grid that also reaches the far edges."""

    def starts(length):
        at = list(range(0, length - PATCH + 1, PATCH // 2))
        return at if at[-1] == length - PATCH else at + [length - PATCH]

    rows = []
    for y in starts(HEIGHT):
        for x in starts(WIDTH):
            box = (slice(y, y + PATCH), slice(x, x + PATCH))
            inside = tissue[box] == 1
            if inside.any():
                row = {"x": x, "y": y, "tissue": inside.mean(), "u": u[box][inside].mean(), "h": h[box][inside].mean()}
                rows.append({k: (round(float(v), 8) if k in ("tissue", "u", "h") else v) for k, v in row.items()})
    return rows


def gaussian(size):
    """nnU-Net v1 `_get_gaussian` with sigma_scale 1/8, one axis pair."""
    delta = np.zeros((size, size))
    delta[size // 2, size // 2] = 1
    weights = gaussian_filter(delta, [size / 8, size / 8], 0, mode="constant", cval=0)
    weights = (weights / weights.max()).astype(np.float32)
    weights[weights == 0] = weights[weights != 0].min()
    return weights


def tile_starts(length, tile, step):
    """nnU-Net v1 `_compute_steps_for_sliding_window`, one axis."""
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / (tile * step))) + 1
    actual = (length - tile) / (count - 1) if count > 1 else 0
    return [int(np.round(actual * i)) for i in range(count)]


def dice(prediction, truth):
    out = []
    for c in range(1, CLASSES):
        p, t = (prediction == c) & (truth != 255), truth == c
        both = int(p.sum() + t.sum())
        out.append(None if both == 0 else 2 * int((p & t).sum()) / both)
    return out


def expected_calibration_error(confidence, correct, bins=15):
    """Guo et al. 2017; bin b holds confidences in (b/bins, (b+1)/bins]."""
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def vectors(seed):
    rng = np.random.default_rng(seed)
    p = member_probabilities(rng)
    u, h = uga_uncertainty(p), entropy(p.mean(axis=0), 0)
    mean = p.mean(axis=0)
    labels, confidence = mean.argmax(axis=0), np.round(mean.max(axis=0), 6)
    tissue = (rng.random((HEIGHT, WIDTH)) < 0.7).astype(int)
    truth = np.where(rng.random((HEIGHT, WIDTH)) < 0.7, labels, rng.integers(0, CLASSES, (HEIGHT, WIDTH)))
    truth[rng.random((HEIGHT, WIDTH)) < 0.1] = 255
    truth[1, :4] = 255  # four of five members agree there: a confidence of exactly 12/15, the edge of a bin
    counted = truth != 255
    # Neither a truncation to 8 bits, nor an argmax, nor the edge of a bin may hang on the last digits of a float.
    scaled = np.clip(u, 0, 4) / 4 * 255
    ordered = np.sort(mean, axis=0)
    edge = (np.abs(confidence * 15 - np.round(confidence * 15)) + (confidence == 1))[counted]
    safe = np.abs(scaled - np.round(scaled))[(u > 1e-6) & (u < 4)].min() > 2e-4
    if not (safe and (ordered[-1] - ordered[-2]).min() > 1e-5 and edge.min() > 1e-4):
        return None

    def flat(a, digits=7):
        return [round(float(v), digits) for v in np.asarray(a).ravel()]

    return {
        "seed": seed,
        "members": MEMBERS,
        "classes": CLASSES,
        "height": HEIGHT,
        "width": WIDTH,
        "patch": PATCH,
        "probabilities": flat(p, 6),
        "uncertainty": flat(u),
        "entropy": flat(h),
        "mutual_information": flat(mutual_information(p)),
        "u8": quantise(u).ravel().tolist(),
        "patches": patch_scores(quantise(u)),
        "tissue": tissue.ravel().tolist(),
        "boxes": float_scores(u, h, tissue),
        "labels": labels.ravel().tolist(),
        "confidence": flat(confidence, 6),
        "truth": truth.ravel().tolist(),
        "dice": dice(labels, truth),
        "ece": round(expected_calibration_error(confidence[counted], (labels == truth)[counted]), 9),
        "gaussian": {str(s): [float(f"{v:.7g}") for v in gaussian(s).ravel()] for s in (8, 9, 16, 24)},
        "tile_starts": [
            {"length": length, "tile": tile, "step": step, "starts": tile_starts(length, tile, step)}
            for length, tile, step in [
                (100, 256, 0.5), (256, 256, 0.5), (257, 256, 0.5), (1000, 256, 0.5), (1024, 256, 0.5), (3333, 512, 0.5),
                (765, 510, 0.5), (999, 128, 0.75), (517, 64, 1.0), (41, 8, 0.3), (12, 9, 0.5), (4096, 512, 0.25),
            ]
        ],
    }


if __name__ == "__main__":
    made = next(v for v in map(vectors, range(1000)) if v is not None)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(made, separators=(",", ":")) + "\n")
    print(f"{OUT}: {OUT.stat().st_size} bytes, seed {made['seed']}, U up to {max(made['uncertainty']):.3f} nats, "
          f"{len(made['patches'])} patches, Dice {made['dice']}, ECE {made['ece']}")
