"""Pages that are made when the site is built: every key of the configuration, the recorded results, the command's help.

A hook of MkDocs: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

import inspect
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, get_args

import yaml
from griffe import Docstring, DocstringSectionParameters
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from odyssey_core import ops
from odyssey_core.data.augment import Augment
from odyssey_core.data.options import pixel_options
from odyssey_core.fitting import describe
from odyssey_core.flops import flops
from odyssey_core.models import MODELS
from odyssey_run.cli import HELP
from odyssey_run.config.binding import parameters
from odyssey_run.config.registries import TASKS
from odyssey_run.config.request import BEGIN, GROUPS, REGISTRIES
from odyssey_run.config.schema import RunConfig, SweepConfig
from odyssey_run.tracking import records

LOG = logging.getLogger("mkdocs.hooks.generate")  # a warning ends a strict build
CONF = Path(str(package_files("odyssey_run.conf")))
Values = Mapping[str, tuple[Any, str]]  # what a file sets, by the path of the key, with the comment beside it
HEAD = "| key | type | default | meaning |\n|---|---|---|---|"
INTRODUCTION = """\
# Configuration

This page is made from the signatures and docstrings of the code. A group is chosen by `GROUP=NAME`, a key is set by
`KEY=VALUE`. `odyssey-run --cfg job ...` prints the configuration that a command would run, and runs nothing.

"""
GROUP_TEXTS = {
    "model": "The network. A list of layers is described in [Build models from layers](models.md).",
    "data": "The images and their classes; see [Use your own data](data.md).",
    "loss": "What training makes small.",
    "optim": "How a gradient changes the weights: p is a parameter, g its gradient.",
    "scheduler": "The factor that the learning rate is multiplied by in each step.",
    "backend": "Who does the arithmetic.",
    "task": "What the command does.",
    "trainer": "How long to train, and in what portions.",
    "tracking": "Where a run is recorded besides its own folder; see [Set up an MLflow server](tracking.md).",
    "run": "The name and the folder of the run.",
    "plots": "The pictures and the report.",
    "sweep": "How the runs of one command with `-m` are chosen and executed; see [Sweep over values](sweeps.md).",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    root = Path(config.config_file_path).parent
    for name, lines in {"configuration": configuration(root), "experiments": experiments(root)}.items():
        files.append(File.generated(config, f"{name}.md", content="".join(f"{line}\n" for line in lines)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the command's own help, the networks and the kinds of records where a page says so."""
    for mark, made in PARTS.items():
        if f"<!-- {mark} -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} -->", "\n".join(made()))
    return markdown


def kinds() -> Iterator[str]:
    """The lines of the table of the kinds of records in a journal."""
    yield "| `kind` | records |\n|---|---|"
    for kind in dict.fromkeys(records.NAMES.values()):
        made = [record.__name__ for record, name in records.NAMES.items() if name == kind]
        yield f"| `{kind}` | {', '.join(f'[`{name}`](#{records.__name__}.{name})' for name in made)} |"


def nets() -> Iterator[str]:
    """The lines of the table of networks that are known by name."""
    yield "| `model=` | parameters | million multiply-adds for one image | |\n|---|---:|---:|---|"
    for name in MODELS:
        if "layers" not in parameters(MODELS[name], MODELS.provided):
            model = MODELS[name]((3, 32, 32), 10)
            size = sum(math.prod(parameter.shape) for parameter in model.parameters().values())
            work = flops([model(ops.images((1, 3, 32, 32)))]) / 2e6
            first = " ".join(summary(MODELS[name]).split("\n\n")[0].split())
            yield f"| [`{name}`](configuration.md#model{name}) | {size:,} | {work:,.1f} | {first} |"


def experiments(root: Path) -> Iterator[str]:
    """The lines of the page with every result: the table of the README, then each experiment's own page."""
    yield "# Recorded results\n"
    overview = re.search(r"<!-- experiments -->\n(.*)<!-- /experiments -->", (root / "README.md").read_text(), re.S)
    yield re.sub(r"experiments/(\w+)/README\.md", r"#\1", overview[1])
    recipes = [file.parent.name for file in sorted(root.glob("experiments/*/README.md")) if not recorded(file)]
    if recipes:
        names = ", ".join(f"[{name}](#{name})" for name in recipes)
        yield f"These are recipes whose results are not recorded yet: {names}.\n"
    for file in sorted(root.glob("experiments/*/README.md")):
        text = re.sub(r"\.\./(\w+)/README\.md", r"#\1", file.read_text())
        yield re.sub(r"^(#+ )", r"#\1", text, flags=re.M)


def recorded(readme: Path) -> bool:
    """Whether the result of an experiment was recorded beside its page."""
    return (readme.parent / "result.json").is_file()


def configuration(root: Path) -> Iterator[str]:
    """The lines of the page with every key."""
    yield INTRODUCTION
    yield "## Keys of no group\n"
    grouped = (*GROUPS, *REGISTRIES, "task")
    yield from table("", RunConfig, written(CONF / "config.yaml"), grouped)
    for group, registry in {**REGISTRIES, "task": TASKS}.items():
        yield f"## {group}\n\n{GROUP_TEXTS[group]}\n"
        shared = tuple(OF_ALL_DATA) if group == "data" else ()
        for name in registry:
            yield f"### {group}={name}\n\n{summary(registry[name])}\n"
            values = written(CONF / group / f"{name}.yaml")
            without = (*registry.provided, *shared)
            yield from table("" if group == "task" else f"{group}.", registry[name], values, without)
        if group == "model":
            yield f"### Keys of every model\n\n{HEAD}"
            yield from (row(f"model.{key}", str | None, values[key], "") for key in BEGIN)
            yield ""
        if group == "data":
            yield f"### Keys of every data set\n\n{HEAD}"
            known = parameters(registry[name])
            yield from (row(f"data.{key}", known[key].annotation, values[key], OF_ALL_DATA[key]) for key in shared)
            yield f"\n### data.augment\n\n{summary(Augment)}\n"
            yield from table("data.augment.", Augment, {})
    for group, schema in {**GROUPS, "sweep": SweepConfig}.items():
        yield f"## {group}\n\n{GROUP_TEXTS[group]}\n"
        first, *others = sorted((CONF / group).glob("*.yaml")) or [CONF / "config.yaml"]
        values = written(first)
        yield from table(f"{group}.", schema, {key.removeprefix(f"{group}."): v for key, v in values.items()})
        for file in others:
            other = {key: value for key, (value, _) in written(file).items() if value != values[key][0]}
            if other:
                yield (
                    f"`{group}={file.stem}` sets " + ", ".join(f"`{k}: {as_yaml(v)}`" for k, v in other.items()) + ".\n"
                )
    yield "## Presets\n\n| choice | what it is |\n|---|---|"
    for file in sorted((CONF / "debug").glob("*.yaml")):
        yield f"| `debug={file.stem}` | {file.read_text().splitlines()[1].lstrip('# ')} |"
    for file in sorted((CONF / "experiment").glob("*.yaml")):
        done = recorded(root / "experiments" / file.stem / "README.md")
        what = "a recorded result" if done else "a recipe whose result is not recorded yet"
        yield f"| `experiment={file.stem}` | [{what}](experiments.md#{file.stem}) |"


def table(prefix: str, target: Callable[..., Any], values: Values, without: tuple[str, ...] = ()) -> Iterator[str]:
    """A table of the keys that set the parameters of a function or class, if it has any.

    Args:
        prefix: before each key.
        target: whose parameters they are.
        values: of the file that configures it.
        without: parameters that are no keys.
    """
    if rows := list(keys(prefix, target, values, without)):
        yield from (HEAD, *rows, "")


def keys(prefix: str, target: Callable[..., Any], values: Values, without: tuple[str, ...] = ()) -> Iterator[str]:
    """A row for each key, those of a mapping one by one."""
    texts = meanings(target)
    for name, parameter in parameters(target, without).items():
        annotation = parameter.annotation
        if is_dataclass(annotation):
            inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
            yield from keys(f"{prefix}{name}.", annotation, inner)
        else:
            yield row(prefix + name, annotation, values.get(name, (parameter.default, "")), texts.get(name, ""))


def row(key: str, annotation: Any, value: tuple[Any, str], text: str) -> str:
    """One key; the meaning is the docstring's, or the comment in the file where there is none."""
    default, comment = value
    meaning = " ".join((text or comment).split())
    if not meaning and not key.endswith(".name"):
        LOG.warning("%s: neither a docstring nor a comment in conf/ says what it means", key)
    shown = "**required**" if default == "???" else f"`{as_yaml(default)}`"
    kind = (
        "a mapping of [these keys](#dataaugment), or null" if Augment in get_args(annotation) else describe(annotation)
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{key}`", kind, shown, meaning)) + " |"


def as_yaml(value: Any) -> str:
    """A value in one line, as it is written in a file."""
    return json.dumps(value) if not isinstance(value, str) else value


def summary(target: Callable[..., Any]) -> str:
    """The part of a docstring that stands before its first section."""
    return re.split(r"^(?:Args|Returns|Raises|Attributes):$", inspect.getdoc(target) or "", maxsplit=1, flags=re.M)[
        0
    ].strip()


def meanings(target: Callable[..., Any]) -> dict[str, str]:
    """The described parameters of a function, or of a class and those it is derived from."""
    texts: dict[str, str] = {}
    for owner in reversed(target.__mro__) if isinstance(target, type) else (target,):
        for section in Docstring(inspect.cleandoc(owner.__doc__ or "")).parse("google", warnings=False):
            if isinstance(section, DocstringSectionParameters):
                texts |= {each.name: each.description for each in section.value}
    return texts


def written(file: Path) -> Values:
    """What a file of the configuration sets."""
    text, comments, at = file.read_text(), {}, ""
    for line in text.splitlines():
        if found := re.match(r"( *)(\w+):(?:.*?\s# (.*))?", line):
            indent, key, comment = found.groups()
            at = key if not indent else f"{at.partition('.')[0]}.{key}"
            comments[at] = comment or ""
    values: dict[str, Any] = {}
    for key, value in yaml.safe_load(text).items():
        values |= (
            {f"{key}.{inner}": x for inner, x in value.items()} if isinstance(value, dict) and value else {key: value}
        )
    return {key: (value, comments.get(key, "")) for key, value in values.items()}


OF_ALL_DATA = meanings(pixel_options)
PARTS: Mapping[str, Callable[[], Iterable[str]]] = {
    "help": lambda: ["```text", HELP + "```"],
    "nets": nets,
    "kinds": kinds,
}
