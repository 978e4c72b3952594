"""What bad input gets: one line a fault, exit code 2, nothing written, no traceback."""

import time

import pytest
from quick import QUICK

import odyssey_run
from odyssey_core.errors import OdysseyError
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS
from odyssey_run import cli
from odyssey_run.config.registries import TASKS

LRR = "unknown key optim.lrr; optim has lr, momentum, nesterov, weight_decay, groups; did you mean optim.lr?"
ONE_FAULT = {
    ("model=lenet6",): "unknown model 'lenet6'; known: MODELS; did you mean 'lenet5'?",
    ("model=null",): "unknown model 'null'; known: MODELS",
    (
        "data=emnits",
    ): "unknown data 'emnits'; known: cifar10, cifar100, digits, emnist, fashion_mnist, folder, glyphs, kmnist, "
    "kuzushiji49, mnist, noise, npz, qmnist, svhn, table, usps; did you mean 'emnist'?",
    ("model.name=lenet6",): "model.name: unknown model 'lenet6'; known: MODELS; did you mean 'lenet5'?",
    ("optim.lrr=1",): LRR,
    ("+optim.lrr=1",): LRR,
    ("++trainer.epoch=1",): "unknown key trainer.epoch; trainer has epochs, batch_size, max_steps, log_every, "
    "validation_size, train_size, clip_norm, ema, lookahead, tta, monitor, keep, patience, time_budget_s, "
    "checkpoint_s; did you mean trainer.epochs?",
    (
        "modle=mlp",
    ): "unknown key modle; the configuration has seed, seeds, resume, hooks, expect, run, plots, trainer, tracking, "
    "model, data, loss, optim, scheduler, backend, task, sweep, experiment, debug; did you mean model?",
    ("seeds=${seed}", "seed=2", "optim.lr=${seed}"): "optim.lr: depends on the seed, but the 2 runs "
    "share one configuration; with odyssey-run -m each run has its own",
    ("run=7",): "run: expected a mapping of name, dir, got 7",
    ("task=show", "show=3"): "show: expected a mapping of listing, got 3",
    ("seeds=0",): "seeds: expected an integer from 1 to 1000, got 0",
    ("expect={test/accuracy: 0.9}",): "expect.test/accuracy: expected a relation (>=, <=, >, <) and a number, such as "
    '">= 0.86", got 0.9',
    ("expect={test/accuracy: '> high'}",): "expect.test/accuracy: expected a relation (>=, <=, >, <) and a number, "
    "such as \">= 0.86\", got '> high'",
    ("scheduler=cosin",): "unknown scheduler 'cosin'; known: constant, cosine, exponential, multistep, onecycle, "
    "plateau, polynomial, step, triangular; did you mean 'cosine'?",
    ("scheduler=multistep", "trainer.epochs=8"): "scheduler.milestones: must lie below the run's 8 epochs, got [5, 8]",
    ("trainer.keep=best", "trainer.validation_size=0"): "trainer.keep: needs a validation set, got "
    "trainer.validation_size 0",
    ("trainer.monitor=test/accuracy",): "trainer.monitor: expected one of val/accuracy, val/loss, got the text "
    "'test/accuracy'",
    ("model=mlp", "model.hidden=[0]"): "model.hidden: expected a list of an integer at least 1 each, got [0]",
    ("trainer.train_size=1338",): "trainer.train_size: expected at most 1337 (the training images left by validation), "
    "got 1338",
    ("trainer.train_size=16",): "trainer.batch_size: expected at most 16 (trainer.train_size=16 is fewer than one "
    "batch), got 32",
    ("model.weights=[3]",): "run_id: no run '[3]' in runs/, nor is there an MLflow store; the last runs: none",
    ("model.weights=none",): "run_id: no run 'none' in runs/, nor is there an MLflow store; the last runs: none",
    ("trainer.ema=1",): "trainer.ema: expected a number from 0 to below 1 or null, got 1",
    ("trainer.time_budget_s=0",): "trainer.time_budget_s: expected a number at least 0.001 or null, got 0",
    ("resume=nothing",): "resume: no run 'nothing' in runs/; there are: none; or use resume=auto",
    ("task=trian",): "unknown task 'trian'; known: TASKS; did you mean 'train'?",
    (
        "run_id=abc",
    ): "unknown key run_id; the configuration has seed, seeds, resume, hooks, expect, run, plots, trainer, tracking, "
    "model, data, loss, optim, scheduler, backend, task, sweep, experiment, debug; did you mean run?",
    ("optim.lr=abc",): "optim.lr: expected a number from 0 to 1e+38, got the text 'abc'",
    ("optim.lr=true",): "optim.lr: expected a number from 0 to 1e+38, got True",
    ("optim.lr=nan",): "optim.lr: expected a number from 0 to 1e+38, got nan",
    ("optim.lr=null",): "optim.lr: expected a number from 0 to 1e+38, got null",
    ("optim.nesterov=1",): "optim.nesterov: expected true or false, got 1",
    ("optim.lr=-0.1",): "optim.lr: expected a number from 0 to 1e+38, got -0.1",
    ("trainer.batch_size=0",): "trainer.batch_size: expected an integer at least 1, got 0",
    ("trainer.batch_size=1.5",): "trainer.batch_size: expected an integer at least 1, got 1.5",
    ("trainer.max_steps=0",): "trainer.max_steps: expected an integer at least 1 or null, got 0",
    ("trainer.label_smoothing=0.1",): "unknown key trainer.label_smoothing; trainer has epochs, batch_size, max_steps, "
    "log_every, validation_size, train_size, clip_norm, ema, lookahead, tta, monitor, keep, patience, time_budget_s, "
    "checkpoint_s; did you mean loss.label_smoothing?",
    ("optim.warmup=0.1", "scheduler=cosine"): "unknown key optim.warmup; optim has lr, momentum, nesterov, "
    "weight_decay, groups; did you mean scheduler.warmup?",
    (
        "loss=crossentropy",
    ): "unknown loss 'crossentropy'; known: cross_entropy, mse, multi_margin; did you mean 'cross_entropy'?",
    ("loss=mse", "+loss.label_smoothing=0.1"): "unknown key loss.label_smoothing; loss has no keys",
    ("loss.label_smoothing=1",): "loss.label_smoothing: expected a number from 0 to below 1, got 1",
    ("seed=-1",): "seed: expected an integer from 0 to 9223372036854775807, got -1",
    ("model=mlp", "model.hidden=[32,a]"): "model.hidden: expected a list of an integer at least 1 each, got [32, 'a']",
    (
        "optim=adam",
        "optim.betas=[0.9]",
    ): "optim.betas: expected a list of 2: a number from 0 to below 1, a number from 0 to below 1, got [0.9]",
    ("optim={lr: 1}",): "optim: expected the name of an option (OPTIMIZERS), got values; set values as optim.KEY=VALUE",
    ("lenet5",): "cannot read 'lenet5': expected name=value, for example optim.lr=0.01 or model=lenet5",
    ("--epochs=3",): "--epochs=3: there is no such flag; odyssey-run --help shows what there is",
    ("tracking=mlflow", "tracking.uri=htp://host"): "tracking.uri: expected sqlite:///FILE, http://HOST:PORT or a "
    "database URI, got 'htp://host'; or run with tracking=none",
    ("tracking=mlflow", "tracking.uri=http://"): "tracking.uri: expected sqlite:///FILE, http://HOST:PORT or a "
    "database URI, got 'http://'; or run with tracking=none",
    ("tracking=mlflow", "tracking.uri=mlruns"): "tracking.uri: expected sqlite:///FILE, http://HOST:PORT or a database "
    "URI, got 'mlruns' (MLflow no longer writes to folders); or run with tracking=none",
    ("run.name=a/b",): "run.name: expected letters, digits and ._+- only, got 'a/b'",
    ("trainer.batch_size=1338",): "trainer.batch_size: expected at most 1337 (the training images left by validation), "
    "got 1338",
    ("trainer.validation_size=1437",): "trainer.validation_size: expected 0, or 10 (the classes) to 1436 "
    "(of the 1437 training images), got 1437",
    ("optim.lr=${oc.env:NO_SUCH}",): "optim.lr: the environment variable NO_SUCH is not set; set it, or write "
    "${oc.env:NO_SUCH,VALUE}",
    ("optim.lr=${optim.lr}",): "optim.lr: ${...} refers to no value; name a key that has one, such as ${seed}",
    (f"run.name={'x' * 201}",): "run.name: expected at most 200 characters, got 201",
    ("expect={1:2}",): "expect: expected names in front of values, got 1",
    (f"optim{'.a' * 31}=1",): f"cannot read 'optim{'.a' * 31}=1': a key has at most 30 dots",
    ("seed=${sede}",): "seed: ${...} refers to no value; name a key that has one, such as ${optim.lr}",
}


@pytest.mark.parametrize("arguments", list(ONE_FAULT), ids=" ".join)
def test_one_fault_gets_one_line(mistake, arguments):
    groups = {a.partition("=")[0] for a in arguments}
    quick = [a for a in QUICK if a.partition("=")[0] not in groups]
    expected = ONE_FAULT[arguments]
    for word, names in {"TASKS": TASKS, "MODELS": MODELS, "OPTIMIZERS": OPTIMIZERS}.items():
        expected = expected.replace(word, ", ".join(sorted(names)))
    assert mistake(*quick, *arguments) == [expected]


def test_all_faults_are_told_at_once(mistake):
    lines = mistake(
        *QUICK[1:],
        "model=lenet6",
        "model.depth=3",
        "optim.lrr=1",
        "trainer.epochs=abc",
        "seeed=1",
        "oops",
        "backend.x=1",
    )
    assert [line.split(";")[0].split(":")[0] for line in lines] == [
        "unknown model 'lenet6'",
        "cannot read 'oops'",
        "unknown key seeed",
        "trainer.epochs",
        "unknown key optim.lrr",
        "unknown key backend.x",
    ]


def test_ranges_types_and_combinations_are_told_together(mistake):
    lines = mistake(
        *QUICK[:-2],
        "model=mlp",
        "model.hidden=[64,0]",
        "optim.momentum=1.5",
        "optim.lr=-1",
        "optim.nesterov=2",
        "scheduler=multistep",
        "trainer.epochs=8",
        "trainer.batch_size=0",
        "trainer.ema=1",
        "trainer.clip_norm=0",
        "data.augment={rotation: 60}",
        "expect={test/accuracy: high}",
        "seed=-1",
    )
    assert sorted(line.split(":")[0] for line in lines) == [
        "data.augment.rotation",
        "expect.test/accuracy",
        "model.hidden",
        "optim.lr",
        "optim.momentum",
        "optim.nesterov",
        "seed",
        "trainer.batch_size",
        "trainer.clip_norm",
        "trainer.ema",
    ]
    assert sorted(mistake(*QUICK, "scheduler=multistep", "trainer.epochs=8", "optim.lr=-1", "optim=rmsprop")) == [
        "optim.lr: expected a number from 0 to 1e+38, got -1",
        "scheduler.milestones: must lie below the run's 8 epochs, got [5, 8]",
    ]


def test_a_fault_in_a_file_names_the_file(mistake, tmp_path):
    own = tmp_path / "conf"
    (own / "experiment").mkdir(parents=True)
    (own / "optim").mkdir()
    (own / "experiment" / "mine.yaml").write_text("# @package _global_\ntrainer: {epochs: many}\nseeed: 1\n")
    (own / "optim" / "fast.yaml").write_text("name: sgd\nlr: quick\n")
    lines = mistake(*QUICK, "--config-dir", str(own), "experiment=mine")
    assert lines[0].startswith("unknown key seeed; ")
    assert lines[0].endswith("did you mean seed? (set in conf/experiment/mine.yaml)")
    assert lines[1] == (
        "trainer.epochs: expected an integer at least 1, got the text 'many' (set in conf/experiment/mine.yaml)"
    )
    assert mistake(*QUICK, "--config-dir", str(own), "optim=fast")[0].startswith("optim.lr: expected a number")


@pytest.mark.parametrize("value", ["[", "}", "a:b=c", ">= 0", "ä", "range(a)", "float(x)", "'1"])
def test_a_value_that_cannot_be_read_names_the_override(mistake, value):
    (line,) = mistake(*QUICK, f"optim.lr={value}")
    assert line == (
        f"cannot read {f'optim.lr={value}'!r}: close brackets and quotes; special characters need quotes: "
        "'optim.lr=\"...\"'"
    )
    assert mistake(*QUICK, f"optim.lrr={value}") == [LRR]


TEXT = ("a (1).png", "a,b.png", "a=b.png", "ä.png", "[1].png", "{a}", "2026", "1.10", "true", "1e5", "scan(2)", "a:b",
        "x&y", "'quoted", "87e123", "a b")  # fmt: skip


@pytest.mark.parametrize("text", TEXT)
def test_keys_of_text_take_what_was_typed(text):
    request = odyssey_run.compose("task=predict", "run_id=x", f"inputs={text}", f"tracking.experiment={text}")
    assert request.task.arguments["inputs"] == request.tracking.experiment == text
    assert request.config["inputs"] == text
    with pytest.raises(OdysseyError, match=r"^optim\.lr: |^cannot read|^optim\.lr=a,b"):
        odyssey_run.compose(f"optim.lr={text if text not in ('2026', '1.10', '1e5', '87e123') else [text]}")


def test_keys_of_text_take_what_the_grammar_says():
    inputs = ["inputs=[a.png,b.png]", "inputs='a b'", 'inputs="ä"', "inputs=a\\,b"]
    found = [odyssey_run.compose("task=predict", "run_id=x", text).task.arguments["inputs"] for text in inputs]
    assert found == [["a.png", "b.png"], "a b", "ä", "a,b"]
    assert odyssey_run.compose("run.name=null", "tracking.register=0012").run.name is None
    assert odyssey_run.compose("tracking.register=0012").tracking.register == "0012"


ELSEWHERE = {
    "lr=0.1": "optim.lr",
    "LR=0.1": "optim.lr",
    "trainer.lr=0.1": "optim.lr",
    "epochs=3": "trainer.epochs",
    "epoch=3": "trainer.epochs",
    "batch_size=8": "trainer.batch_size",
    "batchsize=8": "trainer.batch_size",
    "name=x": "run.name",
    "training={epochs: 3}": "trainer.epochs",
    "experiments=x": "experiment",
    "task.epochs=3": "trainer.epochs",
    "task.port=5057": None,
    "Optim.lr=0.1": "optim.lr",
    "callbacks=x": None,
    "data.root=x": None,
    "optim.lrr=1": "optim.lr",
    "model.momentun=1": "optim.momentum",
}


@pytest.mark.parametrize("text", ELSEWHERE)
def test_an_unknown_key_is_looked_for_in_all_groups(mistake, text):
    (line,) = mistake(*QUICK, text)
    assert line.startswith("unknown key ")
    assert line.partition("did you mean ")[2] == (f"{ELSEWHERE[text]}?" if ELSEWHERE[text] else "")


def test_a_key_of_a_task_is_looked_for_among_its_own(mistake):
    assert mistake("task=ui", "task.port=5057") == ["unknown key task.port; task has name; did you mean port?"]


def test_names_are_compared_without_their_case(mistake):
    assert mistake("data=MNIST")[0].endswith("did you mean 'mnist'?")
    assert mistake("model=LeNet5")[0].endswith("did you mean 'lenet5'?")


@pytest.mark.parametrize(
    "arguments", [("task=plot", "run_id=x", "format=onnx"), ("experiment=lenet5", "scheduler.power=2"),
                  ("model=lenet6", "model.hidden=[3]", "model.dropout=2"), ("scheduler=linear", "scheduler.power=2")]
)  # fmt: skip
def test_no_second_mistake_comes_of_a_guess(mistake, arguments):
    (line,) = mistake(*QUICK, *arguments)
    assert line.startswith(f"unknown {arguments[0].split('=')[0]} ")


HYDRA = {
    "hydra.run.dir=x": "run.dir=FOLDER",
    "hydra.sweep.dir=x": "sweep.name=NAME",
    "hydra.sweeper.params={optim.lr: '1,2'}": "with -m",
    "hydra.mode=MULTIRUN": "with -m",
    "hydra.verbose=true": "train.log",
    "hydra.searchpath=[file:///x]": "--config-dir FOLDER",
    "hydra/launcher=joblib": "sweep.jobs=",
    "hydra.job.name=x": "run.name=NAME",
    "hydra.help.app_name=x": "",
}


@pytest.mark.parametrize("flags", [(), ("-m",)])
@pytest.mark.parametrize("text", HYDRA)
def test_hydras_own_settings_are_refused_in_one_line(mistake, text, flags):
    (line,) = mistake(*flags, text)
    assert line.startswith(f"{text.partition('=')[0]}: Hydra's own settings are not used here")
    assert HYDRA[text] in line


WAYS = {
    ("~optim=0.1",): "cannot read '~optim=0.1': keys cannot be removed; set another value",
    ("optim.lr = 0.1",): "cannot read 'optim.lr = 0.1': no spaces around =: optim.lr=0.1",
    ("optim.lr", "=", "0.1"): "cannot read 'optim.lr = 0.1': no spaces around =: optim.lr=0.1",
    ("optim.lr= 0.1",): "cannot read 'optim.lr= 0.1': no spaces around =: optim.lr=0.1",
    ("optim@x=sgd",): "cannot read 'optim@x=sgd': expected a name such as optim.lr before =, got 'optim@x'",
    ("optim=[sgd,adam]",): f"optim: expected the name of an option ({', '.join(sorted(OPTIMIZERS))}), got a list; "
    "set values as optim.KEY=VALUE",
    ("optim.lr.x=1",): "optim.lr.x: optim.lr is 0.01, which has no keys of its own",
    ("debug.x=1",): "debug.x: debug=NAME chooses a file of values, and has no keys of its own",
    ("task.name=[1]",): f"task.name: unknown task [1]; known: {', '.join(sorted(TASKS))}",
    ("seed=010",): "seed: expected an integer from 0 to 9223372036854775807, got the text '010'",
    ("trainer.batch_size=1e9",): "trainer.batch_size: expected an integer at least 1, got 1e+09; write 1000000000",
    ("seeds=2.0",): "seeds: expected an integer from 1 to 1000, got 2.0; write 2",
    ("seed=9223372036854775807", "seeds=2"): "seeds: the last of 2 seeds would be above 9223372036854775807; choose a "
    "smaller seed",
    (
        "seed=1",
        "seeds=3",
        "trainer.max_steps=${seed}",
        "run.name=of-${seed}",
    ): "trainer.max_steps: depends on the seed, but the 3 "
    "runs share one configuration; with odyssey-run -m each run has its own",
    ("data.augment.rotate=8",): "unknown key data.augment.rotate; data.augment has rotation, scale, shear, shift, "
    "flip, crop, border, cutout, brightness, contrast; "
    "did you mean data.augment.rotation?",
    ("model.dropout=1.5",): "model.dropout: expected a number from 0 to below 1, got 1.5",
    ("optim.lr=1e39",): "optim.lr: expected a number from 0 to 1e+38, got 1e+39",
    ("optim=adam", "optim.eps=0"): "optim.eps: expected a number from 1e-38 to 1e+38, got 0",
    ("optim.lr=" + "9" * 400,): f"optim.lr: expected a number from 0 to 1e+38, got {'9' * 80} ... {'9' * 15}",
    ("seed=${seed}",): "seed: ${...} refers to no value; name a key that has one, such as ${optim.lr}",
    ("task=verify",): "task=verify needs run_id=VALUE; odyssey-run --help task=verify says what it is",
    ("-m", "--cfg", "job"): "--cfg and --info show one configuration: leave -m out, or use -m sweep.dry_run=true",
    ("--cfg", "hydra"): "argument --cfg/-c: invalid choice: 'hydra' (choose from 'job'); odyssey-run --help shows what "
    "there is",
    ("--resolve",): "--resolve and --package say how to print a configuration: add --cfg job",
    (
        "--config-name",
        "x",
    ): "--config-name: is not used here; a configuration of your own is "
    "FOLDER/experiment/NAME.yaml, chosen by --config-dir FOLDER experiment=NAME",
    ("--config-dir", "nothere", "experiment=x"): "--config-dir nothere: no such folder",
}


@pytest.mark.parametrize("arguments", WAYS, ids=lambda arguments: " ".join(arguments)[:60])
def test_what_is_typed_in_another_way_gets_one_line(mistake, arguments):
    assert mistake(*arguments) == [WAYS[arguments]]


@pytest.mark.parametrize(
    "arguments", [("debug=null",), ("experiment=null",), ("experiment=null", "debug=null", "seed=3")]
)
def test_the_shipped_values_can_be_typed(capsys, arguments):
    assert cli.main(["--cfg", "job", *arguments]) == 0
    assert "name: lenet5\n" in capsys.readouterr().out


def test_a_network_too_large_for_the_machine_is_refused_before_it_is_laid_out(mistake):
    (line,) = mistake("model=mlp", "model.hidden=[100000,100000]", "data=digits")
    assert line.startswith("model: 10,078,800,002 weights need at least 75 GiB to be trained, and this machine has ")


@pytest.mark.parametrize("value", [f"[{','.join(['100'] * 5000)}]", "[" * 150 + "]" * 150, "x" * 15_000])
def test_what_is_too_long_or_too_deep_is_answered_at_once(mistake, value):
    begun = time.process_time()
    (line,) = mistake("model=mlp", f"model.hidden={value}")
    assert time.process_time() - begun < 2
    assert len(line) < 300
    assert line.startswith("cannot read 'model.hidden=")
