"""Solving for many instants at once when an instant is tied only to its neighbours in time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded


def solve_block_banded(
    diagonal: Float64[np.ndarray, "N P P"],
    once: Float64[np.ndarray, "N-1 P"],
    twice: Float64[np.ndarray, "N-2 P"],
    right: Float64[np.ndarray, "N P R"],
) -> Float64[np.ndarray, "N P R"] | None:
    """x of A x = right for a symmetric positive definite A in blocks, or None if A is not positive definite.

    `diagonal` are A's diagonal blocks; block (n+1, n) is diag(once[n]) and block (n+2, n) is diag(twice[n]), which is
    what second differences over time give. Banded Cholesky: the cost is N P · (2P)², not (N P)³.
    """
    count, size, columns = right.shape
    tied = bool(np.any(once)) or bool(np.any(twice))
    width = 2 * size if tied else size - 1
    band = np.zeros((width + 1, count, size))  # band[i - j, column j]
    for distance in range(size):
        lower = np.diagonal(diagonal, offset=-distance, axis1=1, axis2=2)
        band[distance, :, : size - distance] = lower
    if tied:
        band[size, :-1] = once
        band[2 * size, :-2] = twice
    try:
        factor = cholesky_banded(band.reshape(width + 1, -1), lower=True, overwrite_ab=True, check_finite=False)
    except LinAlgError:
        return None
    solution = cho_solve_banded((factor, True), right.reshape(-1, columns), check_finite=False)
    return solution.reshape(count, size, columns)


def second_difference(
    weights: Float64[np.ndarray, "P"], tied: Float64[np.ndarray, "N-2"], count: int
) -> tuple[Float64[np.ndarray, "N P"], Float64[np.ndarray, "N-1 P"], Float64[np.ndarray, "N-2 P"]]:
    """Diagonals of Σ_n tied_n ‖√w (x_n − 2 x_{n+1} + x_{n+2})‖²: of the blocks, and of those one and two below."""
    if count < 3:
        return np.zeros((count, len(weights))), np.zeros((max(count - 1, 0), len(weights))), np.zeros((0, len(weights)))
    main, once = np.zeros(count), np.zeros(count - 1)
    main[:-2] += tied
    main[1:-1] += 4 * tied
    main[2:] += tied
    once[:-1] -= 2 * tied
    once[1:] -= 2 * tied
    return main[:, None] * weights, once[:, None] * weights, tied[:, None] * weights
