"""The command behind a run, and the one that goes on with it: to be pasted."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import Start

_PLAIN = re.compile(r"[A-Za-z_][\w/\-+.$%*@?|:]*")  # what Hydra takes as text without quotes


def line(words: Sequence[str]) -> str:
    """A command line of this program; the words are all that stands behind its name."""
    return shlex.join(["odyssey-run", *words])


def override(key: str, value: str) -> str:
    """A value as it is typed: in quotes where Hydra would take it apart or for a number."""
    return f"{key}={value if _PLAIN.fullmatch(value) else quoted(value)}"


def quoted(text: str) -> str:
    """Text in quotes as Hydra reads it: backslashes mean themselves, but for those in front of a quote."""
    return '"' + re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + m[2].replace('"', '\\"'), text) + '"'


def onward(start: Start, folder: Path) -> str:
    """The command that continues a run.

    A sweep is continued by its own command, and so is whatever does not train: it begins again.
    """
    words, config = shlex.split(start.tags.get(Tag.COMMAND, "odyssey-run"))[1:], start.config
    if "sweep" in config or config["task"].get("name") != "train":
        return line(words)
    name = "auto" if config["run"].get("dir") else folder.name  # the folder is named already
    return line([*(word for word in words if not word.lstrip("+").startswith("resume=")), override("resume", name)])
