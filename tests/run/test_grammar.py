"""Whatever is typed gets an answer: exit code 0 or 2, no traceback, no line that nobody reads to its end."""

import copy
import random
from types import NoneType

import pytest

from odyssey_run import cli
from odyssey_run.config import command_line
from odyssey_run.config.composition import ConfigFiles
from odyssey_run.runs import command

SEED = 12
NUMBERS = (
    "0", "-0", "1", "-1", "+1", "0.1", "1.", ".5", "1e3", "1e-3", "1E400", "-1e400", "1e39", "1e-50", "nan", "-inf",
    "inf",
    "010", "0x10", "0b1", "1_000", "1:30", "9223372036854775807", "9223372036854775808", "9" * 400, "1,5", "1,5,7",
)  # fmt: skip
WORDS = (
    "", "null", "Null", "None", "~", "true", "TRUE", "yes", "off", "abc", "auto", "mlp", "MLP", "lenet5", "sgd",
    "Adam",
    "mnist", "MNIST", "a b", " a", "a ", "a=b", "a:b", "a\\,b", "\\", "'", '"', "'a", "'a'", '"a b"', "$x", "${x}",
    "${x", "$",
    "${seed}", "${optim.lr}", "${trainer}", "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${oc.create:1}", "${seed", "${}",
    "${now:%Y}", "${hydra:run.dir}", "${.lr}", "${..seed}", "${optim.lr", "???", "*", "?", "%", "@", "#", "!", "&",
    ";", "|", "<", ">= 0",
    "é", "日本", "a\u200bb", "a\tb", "a\nb", "\x00", "\udcff", "../../etc/passwd", "/", "~/x", "a/b/c", "x" * 600,
    "-", "--",
    "-m", "!!python/object:os.system", "__import__('os')", "{{", "}}", "[", "]", "(", ")", "{", "}", "[[", ",",
    ",,", "1,", ",1",
)  # fmt: skip
CALLS = (
    "range(1,4)", "range(0.1,0.4,0.1)", "range(1,2,0)", "range(0,1e9)", "range(1)", "range()", "range(a)",
    "choice(1,2)",
    "choice()", "interval(0,1)", "interval(1,0)", "interval(0)", "tag(log,interval(1e-4,1))", "tag(a,1)", "glob(*)",
    "glob([a*,s*],exclude=s*)", "sort(3,1,2)", "shuffle(1,2)", "str(1)", "int(1.5)", "int(1e400)", "int(a)",
    "float(x)",
    "bool(2)", "json(1)", "eval(1)", "f(", "f)", "int()", "str([1,2])", "float([1,a])", "choice([1],{a:1})",
)  # fmt: skip
KEYS = (
    "seed", "seeds", "resume", "expect", "run", "plots", "trainer", "tracking", "model", "data", "optim",
    "scheduler", "backend",
    "task", "sweep", "experiment", "debug", "run.name", "run.dir", "plots.enabled", "trainer.epochs",
    "trainer.batch_size",
    "trainer.ema", "trainer.clip_norm", "trainer.monitor", "trainer.validation_size", "trainer.time_budget_s",
    "tracking.uri",
    "tracking.experiment", "model.name", "model.init", "model.dropout", "model.weights", "model.head",
    "model.hidden", "data.name",
    "data.mean", "data.std", "data.augment", "data.augment.rotation", "data.root", "optim.name", "optim.lr",
    "optim.momentum",
    "optim.nesterov", "optim.betas", "optim.betas.0", "optim.lr.x", "scheduler.warmup", "scheduler.gamma",
    "backend.dtype",
    "backend.threads", "backend.groups", "task.name", "task.epochs", "sweep.trials", "sweep.name", "experiment.x",
    "debug.x",
    "expect.test/accuracy", "expect.accuracy", "expect.", "hydra", "hydra.run.dir", "hydra.sweeper.params",
    "hydra/launcher",
    "hydra.verbose", "hydra.searchpath", "lr", "epochs", "LR", "batchsize", "Optim.lr", "optim/lr", "modle", "loss",
    "callbacks",
    "_target_", "optim._target_", "optim..lr", ".optim", "optim.", "optim.lr[0]", "model@x", "model@x:y", "a b",
    "é", "", "0", "1a",
    "-x", "x" * 600, "run_id", "inputs", "port", "optim.lr ", "seed.x.y",
)  # fmt: skip
PREFIXES = ("",) * 12 + ("+", "++", "~", "+++", "~~", "+~")
SIGNS = ("=",) * 14 + ("", " = ", "= ", "==", ":", "+=")
FOREIGN = ("Traceback", "hydra._", "HydraException", "omegaconf", "mismatched", "viable", "token recognition")
NOISE = "[]{}()'\"\\,=$~+@:;!%&*? \t0a.é"


def value(draw: random.Random, depth: int = 0) -> str:
    """A value of the grammar: a number, a word, a call, or a list or mapping of values."""
    kind = draw.random()
    if depth < 3 and kind < 0.12:
        return f"[{','.join(value(draw, depth + 1) for _ in range(draw.randrange(4)))}]"
    if depth < 3 and kind < 0.22:
        pairs = (f"{draw.choice(WORDS + NUMBERS)}:{value(draw, depth + 1)}" for _ in range(draw.randrange(3)))
        return f"{{{','.join(pairs)}}}"
    if kind < 0.3:
        return draw.choice(CALLS)
    return draw.choice(NUMBERS if kind < 0.6 else WORDS)


def override(draw: random.Random) -> str:
    """One override, in one of eight with characters put in at random, and sometimes very long or very deep."""
    kind = draw.random()
    if kind < 0.01:
        return f"{draw.choice(KEYS)}=[{','.join(['100'] * 5000)}]"
    if kind < 0.02:
        return f"{draw.choice(KEYS)}={'[' * 150}{']' * 150}"
    if kind < 0.03:
        return f"{draw.choice(KEYS)}{'.a' * draw.choice((5, 50, 1500))}={value(draw)}"
    text = f"{draw.choice(PREFIXES)}{draw.choice(KEYS)}{draw.choice(SIGNS)}{value(draw)}"
    if draw.random() < 0.125:
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice(NOISE) + text[at:]
    return text


def overrides(count: int) -> list[str]:
    """The first of the strings that the seed gives."""
    draw = random.Random(SEED)
    return [override(draw) for _ in range(count)]


def answers(texts: list[str], capsys) -> list[str]:
    """What is wrong with the answers to commands with one override each; every eighth is a sweep."""
    wrong = []
    for i, text in enumerate(texts):
        flags = ["-m", "sweep.dry_run=true"] if i % 8 == 0 else ["--cfg", "job"]
        try:
            code = cli.main([*flags, "--", text])
        except BaseException as error:
            wrong.append(f"{text!r}: {type(error).__name__}: {error}"[:300])
            capsys.readouterr()
            continue
        lines = capsys.readouterr().err.splitlines()
        if code not in (0, 2) or bool(lines) != (code == 2):
            wrong.append(f"{text!r}: exit code {code}, stderr {lines[:1]}")
        for line in lines:
            if len(line) > 500 or not line.startswith("odyssey-run: ") or any(word in line for word in FOREIGN):
                wrong.append(f"{text!r}: {line[:300]!r}")
    return wrong


@pytest.fixture(autouse=True)
def composed_once(monkeypatch):
    """Hydra composes each choice of options once: nine tenths of the time that a command takes."""
    made, load = {}, ConfigFiles._load

    def kept(files: ConfigFiles, groups: list[str]) -> dict:
        key = tuple(groups)
        if key not in made:
            made[key] = load(files, groups)
        return copy.deepcopy(made[key])

    monkeypatch.setattr(ConfigFiles, "_load", kept)


def test_two_hundred_strings_get_an_answer(capsys):
    assert answers(overrides(200), capsys) == []


@pytest.mark.slow
def test_two_thousand_strings_get_an_answer(capsys):
    texts = overrides(2000)
    assert len(set(texts)) > 1800
    assert answers(texts[200:], capsys) == []


def test_what_is_read_without_the_grammar_is_what_the_grammar_reads():
    draw = random.Random(SEED)
    texts = ["".join(draw.choice("aAeENntT_-./019+x") for _ in range(draw.randint(1, 6))) for _ in range(300)]
    read = {text: found for text in (*NUMBERS, *WORDS, *texts) if (found := command_line.plain(text))}
    assert {type(each.value) for each in read.values()} == {int, float, str, bool, NoneType}
    for text, found in read.items():
        of_hydra = command_line.parsed("key", text, {})
        assert of_hydra is not None and not of_hydra.is_sweep_override(), text
        assert repr(of_hydra.value()) == repr(found.value), text


@pytest.mark.parametrize("text", ["a b", "C:\\x y", 'a"b', "ends with \\", "a'b, c", "1e5", "", "[x]", 'a\\"b'])
def test_a_command_to_be_pasted_says_the_value_that_it_was_made_of(text):
    key, _, value = command.override("run.name", text).partition("=")
    assert command_line.typed(key, value, {}).value == text
