import json
import threading

import pytest
from quick import QUICK

from odyssey_core.errors import ConfigError, DataError
from odyssey_core.files import write_atomic
from odyssey_run import cli
from odyssey_run.tracking import journal as journals
from odyssey_run.tracking.journal import Journal, inherit, is_sent, read
from odyssey_run.tracking.names import JOURNAL
from odyssey_run.tracking.records import Metrics, Sent, Start, Tags, parse
from odyssey_run.training import resume

GROUPS = ("model", "data", "optim", "trainer", "backend", "run", "task")
START = Start(
    run="key", parent=None, name="one", config={group: {"name": None} for group in GROUPS}, params={}, tags={},
    process={},
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def values(path):
    return [record.values["x"] for record in read(path)[0]]


def test_records_come_back_exactly_and_in_order(path):
    journal = Journal(path)
    numbers = [0.1 + 0.2, 1e-300, -0.0, 3.0]
    for step, x in enumerate(numbers):
        journal.append(Metrics(step=step, values={"x": x}))
        assert values(path) == numbers[: step + 1]  # readable at once, before any close
    journal.close()
    times = [record.time for record in read(path)[0]]
    assert times == sorted(times)
    assert times[0] > 1_600_000_000_000  # milliseconds


def test_reading_goes_on_where_it_stopped(path):
    journal = Journal(path)
    journal.append(Metrics(step=1, values={"x": 1}))
    offset = read(path)[1]
    assert read(path, offset) == ([], offset)
    journal.append(Metrics(step=1, values={"x": 2}))
    journal.close()
    assert [r.values["x"] for r in read(path, offset)[0]] == [2]


def test_each_line_is_read_once_whoever_wrote_it(path, monkeypatch):
    journal, other, parsed = Journal(path), Journal(path, owner=False), []
    journal.append(START)
    monkeypatch.setattr(journals, "parse", lambda content, *rest: parsed.append(content) or parse(content, *rest))
    for i, writer in enumerate((journal, other, journal, other)):
        assert [record.kind for record in journal.records().records] == ["start"] + ["metrics"] * i
        writer.append(Metrics(step=i, values={"x": i}))
    assert journal.records().metrics == {"x": [(i, i) for i in range(4)]}
    assert b"".join(parsed) == path.read_bytes()
    for each in (journal, other):
        each.close()


def test_whether_all_was_sent_is_in_the_last_line(path):
    journal = Journal(path)
    for record, sent in (
        (START, False),
        (Sent(), True),
        (Tags(values={"x": '{"kind":"sent",'}), False),
        (Sent(), True),
    ):
        journal.append(record)
        assert is_sent(path) is sent
    journal.close()


def test_a_torn_last_line_is_ignored_and_cut_off(path):
    journal = Journal(path)
    journal.append(Metrics(step=1, values={"x": 1}))
    journal.close()
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert values(path) == [1]
    again = Journal(path)
    again.append(Metrics(step=1, values={"x": 2}))
    again.close()
    assert values(path) == [1, 2]


def test_a_changed_line_is_an_error(path):
    path.write_text('{"kind":"sent","time":1}\nnot json\n{"kind":"sent","time":2}\n')
    with pytest.raises(DataError, match=r"line 2 .* is no journal record: b'not json'"):
        read(path)


def test_nan_is_refused(path):
    journal = Journal(path)
    with pytest.raises(ValueError, match="JSON"):
        journal.append(Metrics(step=1, values={"x": float("nan")}))
    journal.close()
    assert read(path) == ([], 0)


def test_threads_do_not_mix_their_lines(path):
    journal = Journal(path)

    def write(thread):
        for i in range(200):
            journal.append(Tags(values={"x": f"{thread} {i:03}", "padding": "-" * 300}))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert sorted(values(path)) == [f"{n} {i:03}" for n in range(4) for i in range(200)]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "config.yaml"
    write_atomic(file, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_journal_is_inherited_as_soon_as_its_process_lets_go(path):
    held = Journal(path)
    with pytest.raises(ConfigError, match="another process is writing this run"):
        inherit(path, 0.1)
    threading.Timer(0.2, held.close).start()
    inherit(path).close()


WRONG = {
    '{"kind":"end","time":1,"status":"PRUNED"}': "no 'end' that this program wrote: status is 'PRUNED'",
    '{"kind":"metrics","time":1,"step":"3","values":{}}': "no 'metrics' that this program wrote: step is '3'",
    '{"kind":"metrics","time":1,"step":3,"values":{"x":true}}': "no 'metrics' that .*: values is",
    '{"kind":"metrics","time":1,"values":{}}': "no 'metrics' that this program wrote: step is missing",
    '{"kind":"sent"}': "no 'sent' that this program wrote: time is missing",
    '{"kind":"tags","time":1,"values":{},"more":1}': "no 'tags' that this program wrote: more has no place in it",
    '{"kind":"dance","time":1}': "no 'dance' that this program wrote: there is no such kind",
    '{"kind":["end"],"time":1}': "there is no such kind",
    "[]": "no journal record",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_no_record_would_be_is_an_error(path, line):
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match=WRONG[line]):
        read(path)


def test_a_run_that_another_process_finishes_before_it_is_resumed_stays_as_it_is(tmp_path, monkeypatch, capsys):
    arguments = (*QUICK, "model=linear", "run.dir=run")
    assert cli.main([*arguments]) == 0
    before = (tmp_path / "run" / JOURNAL).read_bytes()
    monkeypatch.setattr(resume, "find", lambda request: tmp_path / "run")  # as it was while the other still wrote
    assert cli.main([*arguments, "resume=run"]) == cli.MISTAKE
    assert f"resume: another process has finished {tmp_path}/run meanwhile; nothing is left" in capsys.readouterr().err
    assert (tmp_path / "run" / JOURNAL).read_bytes() == before
