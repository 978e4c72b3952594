"""How every picture looks: narrow enough for a phone, colours that colour-blind people can tell apart."""

import io
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from odyssey_core.files import write_atomic
from odyssey_run.reports.outputs import DPI, MARK

# Okabe and Ito, "Color Universal Design", 2008, in the order in which they are used.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, VERMILLION, GREEN, _, ORANGE, SKY, _ = COLOURS
GREY = "#6b7280"
WIDTH = 4.8  # inches: at 9 points still legible when a phone shows it 350 pixels wide
SETTINGS = Path(__file__).with_name("house.mplstyle")


def figure(
    height: float,
    width: float = WIDTH,
    *,
    left: float = 0.62,
    right: float = 0.12,
    top: float = 0.32,
    bottom: float = 0.45,
    **gaps: float,
) -> Figure:
    """An empty figure, sizes and margins in inches; made without pyplot, which would keep it.

    Margins are given since finding them costs Matplotlib as long as drawing.
    """
    drawn = Figure(figsize=(width, height))
    drawn.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, **gaps)
    return drawn


def styled() -> AbstractContextManager[None]:
    """A context in which figures are made in the house style, whatever a matplotlibrc on this machine asks for."""
    own: dict[Any, Any] = {k: value for k, value in mpl.rcParamsDefault.items() if not k.startswith("backend")}
    return mpl.rc_context(own | mpl.rc_params_from_file(SETTINGS, use_default_template=False))


def shortened(name: str, most: int = 24) -> str:
    """A name without its middle, where there is no room for all of it; what is no text, such as a file's name may hold,
    is a question mark."""
    name = name.encode(errors="replace").decode()
    head, tail = (most + 1) // 2, most // 2 - 1
    return name if len(name) <= most else f"{name[:head]}…{name[len(name) - tail :]}"


def length(names: Iterable[str], size: float = 9) -> float:
    """Inches of the longest of some names, nearly: DejaVu Sans's letters are six tenths of its size wide."""
    return 0.6 * size / 72 * max(map(len, names))


def save(drawn: Figure, path: Path) -> Path:
    """Writes a PNG that says that it was made here; returns its path."""
    out = io.BytesIO()
    # At the default level, 6, packing takes a sixth of the time of drawing; at 3 half of that, for a fifth more bytes.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a class may be named in any script
        drawn.savefig(out, format="png", dpi=DPI, metadata={"Software": MARK}, pil_kwargs={"compress_level": 3})
    write_atomic(path, out.getvalue(), durable=False)  # it can be drawn again, and a run's page holds it too
    return path


def image(axes: Axes, pixels: np.ndarray, title: str = "", **look: Any) -> None:
    """Shows an image without ticks, grid and frame, below a small title."""
    axes.imshow(pixels, **look)
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9, fontweight="normal")
