"""HTML pages that hold everything they show: the frame, pictures and tables that all of them share."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from odyssey_run.reports.outputs import DPI, MARK

LEGIBLE = 84 / DPI  # at 84 pixels an inch the smallest letters can still be read


def filled(name: str, **parts: object) -> str:
    """A template of this package with its parts, which are HTML already; a part that is not given is left out."""
    template = Template((files("odyssey_run.reports") / name).read_text(encoding="utf-8"))
    return template.substitute(defaultdict(str, parts))


def page(title: str, *body: str) -> str:
    """A whole page; the parts of its body are HTML already."""
    return filled("page.html", mark=MARK, title=escape(title), body="\n".join(filter(None, body)))


def picture(path: Path, caption: str, whole: bool = False) -> str:
    """A figure, with the PNG inside; as a whole it is across the page, and never too small to read."""
    png = path.read_bytes()
    data, width = base64.b64encode(png).decode(), int.from_bytes(png[16:20])  # as PNG's head states it
    least = f' style="min-width: {round(width * LEGIBLE)}px"' if whole else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption)}"{least}>'
    kind = ' class="whole"' if whole else ""
    return f"<figure{kind}><div>{image}</div><figcaption>{escape(caption)}</figcaption></figure>"


def side_by_side(parts: Iterable[str]) -> str:
    """Parts beside each other where the window is wide, and one below the other where it is not."""
    shown = [part for part in parts if part]
    return f'<div class="side">{"".join(shown)}</div>' if shown else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls sideways where it must; the cells are HTML already."""
    lines = [f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
