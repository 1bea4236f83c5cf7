"""The fastest that this processor could composite splats: `python benchmarks/ceiling.py`.

One pixel and one Gaussian ("a pair") need at least 12 multiply-type operations, whatever the program: two multiply-
adds for the quadratic form, five for the polynomial of the exponential, one minimum, two comparisons (with the cut-off
and with the end of the light), and the products of transmittance and weight; and one multiply-add per channel. The
ceiling is the rate of independent multiply-adds in registers, measured on all threads at once, divided by that number.
It allows nothing for memory, branches, or anything but full vectors of useful pixels.
"""

from __future__ import annotations

import argparse

import torch

from vultus import kernels

OPERATIONS = 12
"""Multiply-type operations per pair besides one per channel."""


def multiply_add_rate(threads: int, tries: int = 30) -> float:
    """Multiply-adds of single lanes per second, the best of some tries."""
    library = kernels.load()
    return max(library.vultus_multiply_add_rate(threads) for _ in range(tries))


def ceiling(rate: float, channels: int) -> float:
    """Pairs per second, at most, on a processor that does `rate` multiply-adds per second."""
    return rate / (OPERATIONS + channels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    rate = multiply_add_rate(options.threads)
    print(f"{kernels.status().message}; {options.threads} threads: {rate / 1e9:.1f} G multiply-adds/s")
    for channels in (3, 32):
        print(f"{channels:>3} channels: at most {ceiling(rate, channels) / 1e9:.2f} G pairs/s")


if __name__ == "__main__":
    main()
