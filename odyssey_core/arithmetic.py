"""The multiply-add that rounds once, for formulas that NumPy and compiled kernels both run."""

from typing import Any

from odyssey_core import lazy_numpy as np


def fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c rounded once in float32, as one machine instruction does it; in float64 plainly a * b + c.

    Args:
        a, b, c: float32 or float64 numbers or arrays that broadcast, or values of a compiled kernel, whose type then
            says by a method ``fma`` what is meant.

    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd",
    IEEE Transactions on Computers 57(4), 2008. The product of two float32 is exact in float64; a sum rounded to odd
    there and then to float32 is rounded once.
    """
    for x in (a, b, c):
        if hasattr(x, "fma"):
            return x.fma(a, b, c)
    if np.result_type(a, b, c) != np.float32:
        return a * b + c
    product = np.multiply(a, b, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        x = np.asarray(product + c)
        error = (product - (x - (x - product))) + (c - (x - product))
        even = (error != 0) & np.isfinite(error) & (x.view(np.int64) % 2 == 0)
        return np.where(even, np.nextafter(x, np.copysign(np.inf, error)), x).astype(np.float32)
