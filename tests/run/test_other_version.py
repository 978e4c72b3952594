"""``task=verify`` of runs that another version of the program made, whose configuration has other keys."""

import json
from typing import Any

import pytest
from quick import QUICK

from odyssey_run import cli
from odyssey_run.runs import provenance, recorder


@pytest.fixture
def verified(monkeypatch, tmp_path):
    """Records a run as a version would whose groups have other keys, and verifies it; the exit code and the lines."""

    def run(*arguments: str, without: str, extra: dict[str, Any]) -> tuple[int, list[str]]:
        def older(config: dict[str, Any]) -> dict[str, Any]:
            kept = {key: value for key, value in config["trainer"].items() if key != without}
            return {**config, "trainer": kept | extra}

        identity = provenance.identity
        with monkeypatch.context() as patch:
            patch.setattr(recorder, "masked", older)
            patch.setattr(provenance, "identity", lambda config: identity(older(config)))
            patch.setattr(provenance.sources, "digest", lambda plugins: "0" * 64)
            assert cli.main([*QUICK, "model=linear", "run.name=old"]) == 0
        code = cli.main(["task=verify", "run_id=old", "tracking=none", "json=verdict.json", *arguments])
        return code, json.loads((tmp_path / "verdict.json").read_text())["why"]

    return run


def test_a_key_that_was_added_since_takes_its_default(verified):
    code, why = verified("verify.any_code=true", without="lookahead", extra={})
    assert code == 0
    assert why[-1].startswith("the code differs (SHA-256 ")


def test_that_the_code_is_another_is_told_first(verified):
    code, (line,) = verified(without="lookahead", extra={})
    assert code == 4
    assert line.startswith("the code differs (SHA-256 ")
    assert "verify.any_code=true compares all the same" in line


@pytest.mark.parametrize("arguments", [(), ("verify.any_code=true",)])
def test_what_cannot_be_read_is_a_line_each_without_advice(verified, arguments):
    code, why = verified(*arguments, without="lookahead", extra={"foresight": 3, "hindsight": 4})
    assert code == 4
    assert why[0].startswith("the code differs (SHA-256 ")
    assert why[1:] == [
        "this version cannot read the run's configuration",
        "unknown key trainer.foresight",
        "unknown key trainer.hindsight",
    ]
