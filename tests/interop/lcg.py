"""Numbers that Python and Rust draw alike, for golden vectors."""

import math

import numpy as np


class Numbers:
    """Numerical Recipes' linear congruential generator; the upper 24 bits as a fraction."""

    def __init__(self, seed):
        self.state = seed

    def unit(self):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return (self.state >> 8) / 2**24

    def units(self, *shape):
        return np.array([self.unit() for _ in range(math.prod(shape))]).reshape(shape)
