"""Eigenvalues of small symmetric matrices, with the same bits on every machine."""

from __future__ import annotations

import math

from odyssey_core import lazy_numpy as np

SWEEPS = 60  # far more than any matrix needs: convergence is quadratic


def eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of a symmetric matrix and its eigenvectors, by Jacobi's rotations.

    Every off-diagonal element in turn, row by row, is made zero by a rotation, until a whole sweep finds none that
    would change the diagonal. Additions, multiplications, divisions and square roots of float64 in a fixed order: the
    same bits everywhere, unlike LAPACK's. For tens of rows.

    Args:
        matrix: (n, n) float64; what is above the diagonal counts.

    Returns:
        The eigenvalues (n,) from the largest to the smallest, and the eigenvectors (n, n), one a row, of length 1, each
        with its component of largest size above 0.

    Source: Golub and Van Loan, "Matrix Computations", 4th edition, section 8.5, the cyclic method.
    """
    a = np.triu(matrix).astype(np.float64)
    a, n = a + np.triu(a, 1).T, len(matrix)
    vectors = np.eye(n)
    for _ in range(SWEEPS):
        if not sum(_rotated(a, vectors, p, q) for p in range(n) for q in range(p + 1, n)):
            break
    values = a.diagonal()
    order = np.argsort(-values, kind="stable")
    vectors = vectors[order]
    largest = np.abs(vectors).argmax(axis=1)
    return values[order], vectors * np.where(vectors[np.arange(n), largest] < 0, -1.0, 1.0)[:, None]


def _rotated(a: np.ndarray, vectors: np.ndarray, p: int, q: int) -> bool:
    """Makes one element zero, in place; False where it is too small to change the diagonal."""
    off, low, high = float(a[p, q]), float(a[p, p]), float(a[q, q])
    if abs(low) + abs(off) == abs(low) and abs(high) + abs(off) == abs(high):
        return False
    theta = (high - low) / (2 * off)
    tangent = (1.0 if theta >= 0 else -1.0) / (abs(theta) + math.sqrt(theta * theta + 1))
    cosine = 1 / math.sqrt(tangent * tangent + 1)
    sine = tangent * cosine
    for each in (a, vectors):
        row, other = each[p].copy(), each[q].copy()
        each[p], each[q] = cosine * row - sine * other, sine * row + cosine * other
    column, other = a[:, p].copy(), a[:, q].copy()
    a[:, p], a[:, q] = cosine * column - sine * other, sine * column + cosine * other
    a[p, q] = a[q, p] = 0.0
    return True
