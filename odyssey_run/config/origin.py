"""Which file set a value that is wrong, where it was not the command line that just set it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

PATH = re.compile(r"(?:unknown key )?([A-Za-z_]\w*(?:\.\w+)*)[:;]")
PRESETS = ("debug", "experiment")  # files that may set any key, the last word first


def told(line: str, typed: Iterable[str], config: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """A fault with the file that its key was set in, unless it was typed.

    Args:
        line: begins with the key's path, or says nothing of one.
        typed: the command line's overrides.
        config: composed.
        folders: that hold configuration files; the first that has one counts.
    """
    found = PATH.match(line)
    if found is None:
        return line
    key = found[1]
    choices = dict(text.lstrip("+").split("=", 1) for text in typed if "=" in text)
    if any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in choices):
        return line
    group, _, rest = key.partition(".")
    places = [(f"{preset}/{choices[preset]}.yaml", key) for preset in PRESETS if preset in choices]
    places.append((f"task/{config['task'].get('name')}.yaml", key))
    if isinstance(config.get(group), Mapping):
        places.append((f"{group}/{config[group].get('name')}.yaml", rest))
    for file, path in [*places, ("config.yaml", key)]:
        for folder in folders:
            if (folder / file).is_file() and _holds(yaml.safe_load((folder / file).read_text()), path):
                return f"{line} (set in {folder.name}/{file})"
    return line


def _holds(values: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return False
        values = values[name]
    return True
