#!/usr/bin/env python3
"""Writes learning/tests/golden/acquisition.json: maps, scores of boxes and choices, by NumPy, SciPy and scikit-learn.

    python tests/interop/golden_acquisition.py > learning/tests/golden/acquisition.json

Inputs come from a small generator that the Rust test repeats, so the file holds results only, and the Gumbel noise.
"""

import json
import math
import sys

import numpy as np
import scipy
import sklearn
from lcg import Numbers
from scipy import ndimage
from scipy.spatial.distance import cdist, pdist
from scipy.special import rel_entr
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

MEMBERS, CLASSES = 3, 3


def probabilities(numbers, planes, pixels):
    """[planes, classes, pixels], float32 as float64: some sharp, some flat."""
    u = numbers.units(planes, CLASSES, pixels)
    u = u * u * u * u + 0.001
    return (u / u.sum(1, keepdims=True)).astype(np.float32).astype(np.float64)


def maps():
    p = probabilities(Numbers(11), MEMBERS, 40)
    p[:, :, 0] = np.eye(3)
    p[:, :, 1] = np.eye(3)[1]
    mean = p.mean(0)
    top = np.sort(mean, 0)
    return {
        "uga": -(mean * np.log(p + 1e-8)).sum(1).mean(0),
        "entropy": entropy(mean),
        "mutual-information": rel_entr(p, mean).sum(1).mean(0),
        "kl": rel_entr(mean, p + 1e-8).mean((0, 1)),
        "variance": p.var(0)[1:].sum(0),
        "margin": 1 - (top[-1] - top[-2]),
        "least-confidence": 1 - top[-1],
    }


WIDTH, HEIGHT, SIDE, STRIDE, RADIUS = 40, 33, 16, 7, 2


def blocks(numbers, size):
    """One number for each block of pixels."""
    coarse = numbers.units(-(-HEIGHT // size), -(-WIDTH // size))
    return coarse.repeat(size, 0).repeat(size, 1)[:HEIGHT, :WIDTH]


def fields():
    numbers = Numbers(23)
    tissue = blocks(numbers, 5) < 0.55
    excluded = blocks(numbers, 3) < 0.15
    labels = (blocks(numbers, 6) * 3).astype(int)
    mean = probabilities(numbers, 1, WIDTH * HEIGHT)[0].reshape(CLASSES, HEIGHT, WIDTH)
    values = (numbers.units(HEIGHT, WIDTH) * 1.5).astype(np.float32).astype(np.float64)
    return tissue & ~excluded, labels, mean, values


def near_boundaries(labels):
    cross = ndimage.generate_binary_structure(2, 1)
    lowest = ndimage.minimum_filter(labels, footprint=cross, mode="nearest")
    highest = ndimage.maximum_filter(labels, footprint=cross, mode="nearest")
    square = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), bool)
    return ndimage.binary_dilation(lowest != highest, square)


def describe():
    counts, labels, mean, values = fields()
    near = near_boundaries(labels)
    h = entropy(mean)
    found = []
    for y in [0, 7, 14, 17]:
        for x in [0, 7, 14, 21, 24]:
            here = np.s_[y : y + SIDE, x : x + SIDE]
            inside, value = counts[here], values[here]
            if inside.mean() < 0.5:
                continue

            def over(pixels):
                return value[pixels].mean() if pixels.any() else 0.0

            top = np.sort(value[inside])[::-1]
            found.append({
                "x": x,
                "y": y,
                "tissue": inside.mean(),
                "foreground": (inside & (labels[here] > 0)).mean(),
                "border": (inside & near[here]).mean(),
                "shares": [(inside & (labels[here] == c)).mean() for c in range(CLASSES)],
                "class_scores": [(inside * mean[c][here] * h[here]).mean() for c in range(CLASSES)],
                "scores": {
                    "tissue": over(inside),
                    "foreground": over(inside & (labels[here] > 0)),
                    "border": over(inside & near[here]),
                    "top-share": top[: math.ceil(0.2 * len(top))].mean(),
                    "whole": value.mean(),
                },
            })
    return found


COUNT, DIMENSIONS = 24, 5


def candidates():
    numbers = Numbers(31)
    centres = numbers.units(4, DIMENSIONS) * 4 - 2
    out = {"feature": [], "score": [], "class_scores": [], "parts": []}
    for i in range(COUNT):
        feature = (centres[i % 4] + (numbers.units(DIMENSIONS) - 0.5) * 1.6).astype(np.float32).astype(np.float64)
        out["feature"].append(feature)
        out["score"].append(numbers.unit())
        out["class_scores"].append(numbers.units(CLASSES) * 0.3)
        parts = feature + (numbers.units(4, DIMENSIONS) - 0.5)
        out["parts"].append(parts.astype(np.float32).astype(np.float64))
    return {key: np.array(value) for key, value in out.items()}


def power(pool, noise):
    beta = 2.0
    keys = np.log(pool["score"]) + noise[:, 0] / beta
    best = np.argsort(-pool["score"])[:12]
    ranks = -np.log(np.arange(1, 13)) + noise[best, 0] / beta
    return {"beta": beta, "keys": keys, "order": np.argsort(-keys), "soft_rank": best[np.argsort(-ranks)][:6]}


def clasp(pool, noise):
    """Twelve boxes: int(.66 * 12) = 7 for the classes, of which class 2 has the first turn and the one more."""
    beta, wanted = 3.0, {2: 4, 1: 3}
    keys = {c: np.log(pool["class_scores"][:, c]) + noise[:, c] / beta for c in (1, 2)}
    plain = np.log(pool["class_scores"].sum(1)) + noise[:, 0] / beta
    chosen = []
    while any(wanted.values()):
        for c in (2, 1):
            if wanted[c]:
                chosen.append(next(i for i in np.argsort(-keys[c]) if i not in chosen))
                wanted[c] -= 1
    for i in np.argsort(-plain):
        if len(chosen) < 12 and i not in chosen:
            chosen.append(i)
    return {"beta": beta, "keys": keys[2], "order": chosen, "betas": np.geomspace(1, 100, 5)}


def typiclust(pool):
    x = normalize(pool["feature"])
    clusters = [list(range(9)), list(range(9, 16)), list(range(16, 21)), list(range(21, 24))]
    clusters = [c for c in clusters if len(c) > 5]
    chosen = []
    for turn in range(6):
        members = clusters[turn % len(clusters)]
        k = min(4, len(members) // 2)
        distances = NearestNeighbors(n_neighbors=k + 1).fit(x[members]).kneighbors(x[members])[0][:, 1:]
        best = members[int(np.argmax(1 / (distances.mean(1) + 1e-5)))]
        chosen.append(best)
        members.remove(best)
    return chosen


def herding(pool):
    x = normalize(pool["feature"])
    h = np.median(pdist(x))
    kernel = rbf_kernel(x, gamma=1 / h**2)
    chosen, covered = [], np.zeros(COUNT)
    for _ in range(8):
        gains = [np.maximum(kernel[i], covered).sum() if i not in chosen else -1 for i in range(COUNT)]
        chosen.append(int(np.argmax(gains)))
        covered = np.maximum(covered, kernel[chosen[-1]])
    return {"width": h, "sums": kernel.sum(1), "order": chosen}


def farthest(pool):
    best = np.argsort(-pool["score"])[:12]
    distances = cdist(*[StandardScaler().fit_transform(pool["feature"][best])] * 2)
    chosen = [0]
    while len(chosen) < 6:
        nearest = distances[:, chosen].min(1)
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
    return best[chosen]


def two_stage(pool):
    """Lou's scores of the boxes 0, 4, 8 ..., the largest cluster of their quarters being given."""
    members = list(range(0, COUNT, 4))
    largest = [(0, 1), (0, 2), (4, 0), (8, 3), (12, 1), (12, 2), (20, 0)]
    centre = pool["feature"][members].mean(0)
    typical = np.mean([pool["parts"][j][i] for j, i in largest], 0)
    scores = {}
    for j in sorted({j for j, _ in largest}):
        parts = pool["parts"][j]
        inter = np.linalg.norm(pool["feature"][j] - centre)
        intra = np.linalg.norm(parts - typical, axis=1).mean()
        scores[str(j)] = inter + intra + cdist(parts, parts).max()
    return scores


def k_means(pool):
    x = pool["feature"]
    fitted = KMeans(4, init=x[[0, 4, 8, 1]], n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(x)
    return {"labels": fitted.labels_, "centres": fitted.cluster_centers_}


def uga():
    """Spec 1.5 and 1.6 on nine patches of 32 x 32: the table's two columns, the filters, and the sorted list."""
    numbers = Numbers(47)
    table, kept = [], []
    for patch in range(9):
        scale = [0, 0.03, 4.5, 1, 2, 0.6, 3, 1.5, 0.2][patch]
        black, white = [0.0, 0.3, 0.45][patch % 3], [0.0, 0.35, 0.2][patch // 3]
        u, colour = numbers.units(32, 32), numbers.units(32, 32)
        u8 = (np.clip((u * u * scale).astype(np.float32), 0, 4) / np.float32(4) * np.float32(255)).astype(np.uint8)
        labels = np.full((32, 32), 2 if patch in (4, 5) else 1)
        if not u8.any():
            continue
        max_uncertain = int((u8 > 0.8 * u8.max()).sum())
        total = int(u8.sum(dtype=np.int64))
        table.append({"patch": patch, "max_uncertain": max_uncertain, "uncertainty_score": total})
        is_black, is_white = colour < black, (colour >= black) & (colour < black + white)
        if (~is_black).mean() < 0.6 or (not (labels == 2).any() and (~is_white).mean() < 0.7):
            continue
        kept.append((100 * max_uncertain + total, patch))
    return {"table": table, "order": [patch for _, patch in sorted(kept, reverse=True)]}


def uga_of_maps():
    """Spec 1.4 to 1.6 from the maps of two slides to boxes: 8-bit values, a grid of 32 px from the corner, filters, and the best
    seven of both slides' lists together, as [slide, x, y]."""
    numbers, rows = Numbers(61), []
    for slide, (width, height) in enumerate([(200, 170), (165, 230)]):
        coarse = lambda size: numbers.units(-(-height // size), -(-width // size)).repeat(size, 0).repeat(size, 1)[:height, :width]
        u = numbers.units(height, width)
        nats = (u * u * coarse(24) * 6).astype(np.float32)
        colour, labels = coarse(16), np.where(coarse(40) < 0.2, 2, 1)
        u8 = (np.clip(nats, 0, 4) / np.float32(4) * np.float32(255)).astype(np.uint8)
        black, white = colour < 0.3, (colour >= 0.3) & (colour < 0.6)
        for y in range(0, height - 31, 32):
            for x in range(0, width - 31, 32):
                box = np.s_[y : y + 32, x : x + 32]
                if not u8[box].any() or (~black[box]).mean() < 0.6:
                    continue
                if not (labels[box] == 2).any() and (~white[box]).mean() < 0.7:
                    continue
                key = 100 * int((u8[box] > 0.8 * u8[box].max()).sum()) + int(u8[box].sum(dtype=np.int64))
                rows.append((key, slide, x, y))
    rows.sort(key=lambda row: (-row[0], row[1:]))
    return {"rows": len(rows), "boxes": [row[1:] for row in rows[:7]]}


def metrics():
    """How well a score ranks errors, the risk-coverage curve's area without ties, and calibration over 15 bins."""
    numbers = Numbers(67)
    score, error = numbers.units(60), numbers.units(60) < 0.3
    tied, confidence, right = np.floor(score * 8) / 8, 0.34 + 0.66 * numbers.units(60), numbers.units(60) < 0.7
    confidence = confidence.astype(np.float32).astype(np.float64)
    risks = np.cumsum(error[np.argsort(score)]) / np.arange(1, 61)
    place = np.ceil(confidence * 15)
    gaps = [abs(right[place == b].mean() - confidence[place == b].mean()) * (place == b).mean() for b in np.unique(place)]
    auroc = lambda values: float(roc_auc_score(error, values))
    return {"auroc": auroc(score), "auroc_tied": auroc(tied), "aurc": risks.mean(), "ece": float(sum(gaps))}


def sharpness():
    """Of a box of 24 x 24 pixels of 0.5 and of 1 um: variance of the Laplacian over that of luminance, over tissue."""
    numbers = Numbers(59)
    colours = np.floor(numbers.units(24, 24, 3) * 256)
    colours = ndimage.uniform_filter(colours, (3, 3, 0), mode="nearest").round()
    tissue = numbers.units(24, 24) < 0.9
    light = colours @ [0.299, 0.587, 0.114]
    out = {"colours": colours.astype(int).ravel(), "tissue": tissue.ravel()}
    for key, factor in [("0.5", 2), ("1", 1)]:
        side = 24 // factor
        blocks = (side, factor, side, factor)
        small, inside = light.reshape(blocks).mean((1, 3)), tissue.reshape(blocks).all((1, 3))
        curved = ndimage.laplace(small)[1:-1, 1:-1][inside[1:-1, 1:-1]]
        out[key] = curved.var() / small[1:-1, 1:-1][inside[1:-1, 1:-1]].var()
    return out


def plain(value):
    """Numbers as JSON has them, with twelve digits."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    return float(f"{value:.12g}") if isinstance(value, (float, np.floating)) else int(value)


if __name__ == "__main__":
    pool = candidates()
    noise = np.round(np.random.default_rng(5).gumbel(size=(COUNT, CLASSES)), 6)
    golden = {
        "maps": maps(),
        "describe": describe(),
        "noise": noise,
        "power": power(pool, noise),
        "clasp": clasp(pool, noise),
        "typiclust": typiclust(pool),
        "herding": herding(pool),
        "farthest_first": farthest(pool),
        "two_stage": two_stage(pool),
        "k_means": k_means(pool),
        "uga": uga(),
        "uga_of_maps": uga_of_maps(),
        "metrics": metrics(),
        "sharpness": sharpness(),
    }
    versions = {module.__name__: module.__version__ for module in (np, scipy, sklearn)}
    json.dump({"versions": versions} | plain(golden), sys.stdout, separators=(",", ":"))
    print()
