#!/usr/bin/env python3
"""How often the two-way bootstrap of comparisons (seeds and fields drawn with replacement, percentiles) holds the truth.

    python tests/peers/bootstrap_coverage.py

Values are a part by seed, a part by field and noise, all normal, with a true mean of 0; needs NumPy. Prints the share of
400 nominal 95 % intervals that hold 0: where seeds differ most, where all parts are alike, and of noise alone.
"""

import numpy as np

PARTS = [(1, 0.2, 0.5), (1, 1, 1), (0, 0, 1)]


def coverage(rng, seeds, fields, parts, trials=400, resamples=400):
    by_seed, by_field, noise = parts
    held = 0
    for _ in range(trials):
        x = by_seed * rng.normal(size=(seeds, 1)) + by_field * rng.normal(size=(1, fields)) + noise * rng.normal(size=(seeds, fields))
        rows, columns = rng.integers(0, seeds, (resamples, seeds)), rng.integers(0, fields, (resamples, fields))
        means = [x[np.ix_(row, column)].mean() for row, column in zip(rows, columns)]
        low, high = np.percentile(means, [2.5, 97.5])
        held += low <= 0 <= high
    return held / trials


if __name__ == "__main__":
    rng = np.random.default_rng(1)
    for seeds, fields in [(2, 12), (3, 12), (5, 23)]:
        print(f"{seeds} seeds, {fields} fields:", *(f"{100 * coverage(rng, seeds, fields, parts):.0f} %" for parts in PARTS))
