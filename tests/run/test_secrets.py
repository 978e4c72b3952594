"""A password in an address is used, and is nowhere afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_server import serving

from odyssey_run import cli
from odyssey_run.config.masking import masked
from odyssey_run.sweep.cluster import Sealed
from odyssey_run.tracking.location import Store

COMMAND = [sys.executable, "-m", "odyssey_run.cli"]
SHORT = ("model=linear", "data=digits", "backend=numpy", "trainer.validation_size=100", "trainer.epochs=2")
SECRET = "g3heim"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://maria:g3heim@host:5000/x", "http://maria:***@host:5000/x"),
        ("postgresql+psycopg://u:p@ss/w:rd@host/db", "postgresql+psycopg://u:***@host/db"),  # as SQLAlchemy reads it
        ("https://:g3heim@host", "https://:***@host"),
        ("https://g3heim@host/x", "https://***@host/x"),
        ("postgresql://maria@host/db", "postgresql://maria@host/db"),
        ("postgresql://host/db?user=u&password=g3heim&sslmode=require", "postgresql://host/db?user=u&password=***&sslmode=require"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER={x};PWD=g3heim", "mssql+pyodbc:///?odbc_connect=***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER={a b};PWD=g3h;eim", "mssql+pyodbc:///?odbc_connect=*** b};PWD=***"),
        ("http://maria@corp.com:g3heim@127.0.0.1:9/x", "http://maria@corp.com:***@127.0.0.1:9/x"),
        ("postgresql://maria@server:g3@heim@host/db", "postgresql://maria@server:***@host/db"),
        ("postgresql://ma?r#ia:g3heim@host/db", "postgresql://ma?r#ia:***@host/db"),
        ("http://maria@corp.com@host:5000", "http://***@host:5000"),
        ("postgresql://host/db?password=g3;he#im&user=u", "postgresql://host/db?password=***&user=u"),
        ("postgresql://host/db?password=g3'h\"eim", "postgresql://host/db?password=***"),
        ("postgresql://host/db?pass=g3heim", "postgresql://host/db?pass=***"),
        ("task 'uri=\"pg://h/db?password=g3heim\"' seed=1", "task 'uri=\"pg://h/db?password=***\"' seed=1"),
        ('no answer from "http://h/?token=g3heim"; try again', 'no answer from "http://h/?token=***"; try again'),
        ("GET /api?access_token=g3heim (failed)", "GET /api?access_token=*** (failed)"),
        ('no answer from "http://a:g3heim@h", nor http://b:g3heim@i', 'no answer from "http://a:***@h", nor http://b:***@i'),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
        ("http://host/#/runs/1?workflowType=machine_learning", "http://host/#/runs/1?workflowType=machine_learning"),
        ("tcp://10.0.0.1:8786, x@y", "tcp://10.0.0.1:8786, x@y"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_what_opens_it(text, expected):
    assert masked(text) == expected
    assert masked(expected) == expected
    assert masked({"a": [text, 1, None], "b": (text,)}) == {"a": [expected, 1, None], "b": (expected,)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["tracking.uri=ftp://maria:g3heim@host"],
        ["tracking.uri=g3heim://maria:g3heim@[host", "model=lenet6"],
        ["unknown=http://maria:g3heim@host"],
        ["optim.lr=http://maria:g3heim@host,http://maria:g3heim@other"],
        ["tracking.uri=postgresql://maria:g3heim@host/a b"],
        ["tracking.uri=http://maria:g3heim@host", "optim.lr=-1"],
        ["optim.lr=http://maria:g3heim@host}"],
        [f"tracking.uri=http://{'m' * 90}:g3heim{'g3heim' * 20}@host/", "optim.lr=-1"],
        [f"optim.lr=http://maria:g3heim{'g3heim' * 40}@host"],
        ["+x={a: http://maria:g3heim@host"],
    ],
    ids=" ".join,
)
def test_no_message_quotes_it(mistake, arguments):
    assert SECRET not in "\n".join(mistake(*arguments)).replace(f"{SECRET}://", "")


def test_what_is_shown_of_a_store_and_of_a_job():
    store = Store(f"http://maria:{SECRET}@host", "e", None)
    assert SECRET not in repr(store) + store.shown + store.named_in(Path("runs/x")) + store.address("1", "2")
    assert SECRET not in repr(Sealed(folder="runs/x", config={"tracking": {"uri": store.uri}}))


def test_the_printed_configuration_has_none(capfd):
    assert cli.main(["--cfg", "job", f"tracking.uri=http://maria:{SECRET}@host"]) == 0
    out, err = capfd.readouterr()
    assert "uri: http://maria:***@host" in out
    assert SECRET not in out + err


def test_a_masked_address_is_told_apart_from_a_real_one(mistake):
    (line,) = mistake(*SHORT, "tracking.uri=http://maria:***@host")
    assert line == "tracking.uri: *** is a masked password, which is not kept; write the password itself"


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def arguments_of_processes() -> bytes:
    """What everybody on the machine can read of the processes that this one's children started."""
    found = b""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"-c" in (line := (place / "cmdline").read_bytes()).split(b"\0"):
                found += line
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its folder and its address without a password; it takes any."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder) as address:
        yield folder, address.removeprefix("http://")


PRESET = "# @package _global_\ntracking: {{uri: '{uri}'}}\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["command", "environment", "file", "interpolation", "sweep"])
def test_on_whatever_way_it_comes_it_is_used_and_not_kept(tmp_path, server, way):
    where, address = server
    uri, environment, arguments = f"http://maria:{SECRET}@{address}", {}, [*SHORT, "tracking.register=reader"]
    if way == "environment":
        environment = {"MLFLOW_TRACKING_URI": uri}
    elif way == "file":
        (tmp_path / "conf/experiment").mkdir(parents=True)
        (tmp_path / "conf/experiment/own.yaml").write_text(PRESET.format(uri=uri))
        arguments = ["--config-dir", "conf", *arguments, "experiment=own"]
    elif way == "interpolation":
        environment = {"OWN": uri}
        arguments.append("tracking.uri=${oc.env:OWN}")
    else:
        arguments = [*(["-m", "optim.lr=0.1,0.2"] if way == "sweep" else []), *arguments, f"tracking.uri={uri}"]
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "conf").exists() and (tmp_path / "conf").rename(work / "conf")
    process = subprocess.Popen(
        [*COMMAND, *arguments, f"tracking.experiment={way}"],
        cwd=work,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen = b""
    while process.poll() is None:
        seen += arguments_of_processes()
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert f"maria:***@{address}" in out
    assert SECRET not in out
    assert SECRET.encode() not in seen
    for path in (work / "conf").rglob("*.yaml"):
        path.unlink()  # the user's own
    for folder in (work, where):
        assert b"maria:***@" in everything_in(folder)
        assert SECRET.encode() not in everything_in(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_database_that_does_not_answer_is_quoted_without_it(tmp_path):
    pytest.importorskip("psycopg")
    uri = f"postgresql://maria@127.0.0.1:9/db?password={SECRET}"
    command = [*COMMAND, *SHORT, f'tracking.uri="{uri}"', "run.name=r"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 5, done.stderr
    assert "postgresql://maria@127.0.0.1:9/db?password=***" in done.stdout
    assert "does not answer" in done.stdout
    assert "is incomplete" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert SECRET.encode() not in everything_in(tmp_path)
    # What has to be given again is said, and nothing is sent to where the command does not name.
    doctor = subprocess.run([*COMMAND, "task=doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (doctor.returncode, doctor.stderr) == (5, "")
    assert doctor.stdout == (
        f"1 run not yet in MLflow at {masked(uri)}; to send: odyssey-run task=doctor "
        f"'tracking.uri=\"{masked(uri)}\"', with the password for ***\n"
    )
