"""Every YAML composes and binds, and lists exactly the arguments of what it configures."""

from importlib.resources import files
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from odyssey_run.config.binding import bind, parameters
from odyssey_run.config.registries import TASKS
from odyssey_run.config.request import BEGIN, GROUPS, REGISTRIES, check
from odyssey_run.config.schema import RunConfig, SweepConfig
from odyssey_run.config.yaml_text import yaml_text

CONF = Path(str(files("odyssey_run.conf")))
FILES = sorted(path.relative_to(CONF) for path in CONF.glob("*/*.yaml"))


SCHEMAS = GROUPS | {"sweep": SweepConfig}


def compose(*overrides):
    """Less what a sweep alone asks."""
    with hydra.initialize_config_module("odyssey_run.conf", version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)
    _, faults = bind(SweepConfig, config.pop("sweep"), "sweep")
    assert faults == []
    return config


@pytest.mark.parametrize("file", FILES, ids=str)
def test_composes_and_binds(file):
    large = ["data=cifar10"] if str(file.parent) == "model" else []  # images that every model takes
    config = compose(f"{file.parent}={file.stem}", *large)
    for group in (config, *(values for values in config.values() if isinstance(values, dict))):
        group |= {key: "given" for key, value in group.items() if value == "???"}
    request = check(config)
    assert request.config == config


@pytest.mark.parametrize("file", [f for f in FILES if str(f.parent) in REGISTRIES], ids=str)
def test_component_lists_its_constructors_arguments(file):
    group, values = str(file.parent), yaml.safe_load((CONF / file).read_text())
    name = values.pop("name")
    assert name == file.stem
    for key in BEGIN:
        assert (values.pop(key, ...) is None) == (group == "model")
    assert list(values) == list(parameters(REGISTRIES[group][name], REGISTRIES[group].provided))


@pytest.mark.parametrize("file", [f for f in FILES if str(f.parent) in SCHEMAS], ids=str)
def test_group_lists_its_schemas_fields(file):
    values = yaml.safe_load((CONF / file).read_text())
    assert list(values) == list(parameters(SCHEMAS[str(file.parent)]))


@pytest.mark.parametrize("file", [f for f in FILES if str(f.parent) == "task"], ids=str)
def test_a_task_lists_its_arguments(file):
    values = yaml.safe_load((CONF / file).read_text())
    assert values.pop("task") == {"name": file.stem}
    own = parameters(TASKS[file.stem], TASKS.provided)
    assert list(values) == list(own)
    assert not set(own) & set(parameters(RunConfig))


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("file", FILES, ids=str)
def test_yaml_is_the_same_whatever_writes_it(file):
    values = yaml.safe_load((CONF / file).read_text()) | {
        "text": ["\u00e4: x", "", "on", "1e3", "a " * 60, None],
        3: 1e300,
    }
    assert yaml_text(values) == yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    assert yaml.safe_load(yaml_text(values)) == values


@pytest.mark.parametrize("group", [*REGISTRIES, "task"])
def test_every_registered_name_has_a_file(group):
    assert {path.stem for path in (CONF / group).glob("*.yaml")} == set(REGISTRIES.get(group, TASKS))


def test_defaults_of_a_plain_run():
    config = compose()
    assert config["model"]["name"] == "lenet5"
    assert config["data"]["name"] == "glyphs"
    assert (config["optim"]["name"], config["optim"]["lr"], config["optim"]["momentum"]) == ("sgd", 0.01, 0.0)
    assert (config["data"]["mean"], config["data"]["std"]) == (0.0, 1.0)
    assert (config["trainer"]["batch_size"], config["trainer"]["epochs"], config["seed"]) == (32, 10, 0)


def test_smoke_is_short_and_leaves_mlflow_alone():
    config = compose("debug=smoke")
    assert config["tracking"]["name"] == "none"
    assert config["trainer"]["max_steps"] == 20
    assert config["trainer"]["batch_size"] == 32
