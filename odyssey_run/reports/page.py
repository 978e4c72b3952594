"""HTML pages that hold everything they show, from the templates beside this file, which escape what is put in."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from odyssey_run.reports.outputs import DPI, MARK
from odyssey_run.reports.summary import number


def filled(name: str, **parts: object) -> str:
    """A template with its parts; what is no text in them, such as a folder's name may hold, is a question mark."""
    return _templates().get_template(name).render(mark=MARK, **parts).encode(errors="replace").decode()


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"png": _png, "number": number}
    return made


def _png(path: Path) -> dict[str, Any]:
    content = path.read_bytes()  # its head states the width
    return {"data": base64.b64encode(content).decode(), "width": int.from_bytes(content[16:20]), "dpi": DPI}
