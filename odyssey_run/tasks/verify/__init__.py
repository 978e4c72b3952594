"""``task=verify run_id=...``: trains a recorded run again and says whether it told the truth: every statement in its
list is held.

Everything it needs comes from MLflow, or from the run's folder alone. The verdict goes to a run of its own under the
one that was verified, whose tag says it too; what each verdict covers is in docs/verification.md.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError, DataError, OdysseyError
from odyssey_core.files import write_atomic
from odyssey_run.config import claims, plugins, sources
from odyssey_run.config.binding import Faults, lines_of
from odyssey_run.config.changes import completed
from odyssey_run.config.claims import OF_THE_MACHINE
from odyssey_run.config.request import Request, check
from odyssey_run.config.schema import VerifyConfig
from odyssey_run.reports import summary
from odyssey_run.reports.outputs import writing
from odyssey_run.runs import provenance, recorded, statements
from odyssey_run.runs.folder import REPORT, RUNS
from odyssey_run.runs.statements import COMPARED, DERIVED, HELD
from odyssey_run.tasks.verify.evidence import Differs, Evidence, InFolder, InMLflow, hold
from odyssey_run.tasks.verify.retraining import train_again
from odyssey_run.tasks.verify.verdict import CANNOT, DIFFERS, EXIT_CODES, REPRODUCED, Verdict, as_json
from odyssey_run.tracking.client import fault_of, reach
from odyssey_run.tracking.location import resolve
from odyssey_run.tracking.names import Status, Tag, sent
from odyssey_run.tracking.records import MAX_PARAM
from odyssey_run.training.build import Assembly, assemble
from odyssey_run.training.train import CLAIMS

MOST_LINES = 5
NOTE = 4000  # characters of a run's description
CLAIMED = (f"tags/{Tag.CLAIMS}", f"files/{CLAIMS}")
PARTS = "configurations of its runs"
Found = tuple[list[str], dict[str, str], int | None]  # what was compared, how each statement was held, steps if not all


def verify(request: Request, run_id: str, verify: VerifyConfig, badge: str | None, json: str | None) -> int:
    """Verifies a run and every run under it; returns 0 REPRODUCED, 3 DIFFERS, 4 CANNOT: of several runs the worst.
    Raises ConfigError: there is no such run, or a file to write would replace one of somebody else's."""
    for path in filter(None, (badge, json)):  # now, not after all the work
        with writing(Path(path)):
            pass
    run = _find(request, run_id)
    verdicts = []
    for verdict in _verdicts(request, run, verify):
        print(verdict, flush=True)
        verdicts.append(verdict)
    worst = max(verdicts[::-1], key=lambda verdict: EXIT_CODES[verdict.word])
    for wanted, content in ((badge, worst.badge()), (json, as_json(verdicts))):
        if wanted:
            with writing(Path(wanted)):
                write_atomic(Path(wanted), content)
    if isinstance(run, InMLflow):
        try:
            _record(run, request, verdicts)
        except Exception as error:  # of whatever kind of store; it may only be read
            print(f"MLflow does not record the verdict: {fault_of(error)}")
    return EXIT_CODES[worst.word]


def _find(request: Request, run_id: str) -> InMLflow | InFolder:
    """The run in MLflow, or in its folder where MLflow has none of it."""
    store = resolve(request.tracking, request.data.name)
    there = store if store and (store.database is None or store.database.exists()) else None
    folder = recorded.locate(run_id)
    if folder is None:
        if there:
            return InMLflow(reach(there), run_id)
        where = "tracking=none" if store is None else f"{store.database}, which does not exist"
        raise ConfigError(f"run_id: no run {run_id!r} in {RUNS}/, and no MLflow store: {where}; set tracking.uri")
    known = None
    with suppress(DataError):  # reported when it is read
        known = recorded.open_run(folder).run_id
    if known and there:
        try:
            return InMLflow(reach(there), known)
        except ConfigError as error:
            print(f"{error}; its folder alone is verified")
    return InFolder(folder)


def _verdicts(request: Request, run: InMLflow | InFolder, config: VerifyConfig) -> Iterator[Verdict]:
    """On each of the runs under a run, and last on itself."""
    verdict, below, notes = Verdict(CANNOT, run.name, run.where), list[Verdict](), list[str]()
    with tempfile.TemporaryDirectory() as place:
        try:
            evidence = run.gather(Path(place))
            verdict = replace(verdict, digest=evidence.digest, evidence=evidence)
            above = evidence.records.has_parts
            for child in run.children() if above else ():
                if f"children/{child.key}" in evidence.stated:
                    for each in _verdicts(request, child, config):
                        if each.name == run.name and each.evidence:  # so has MLflow those of one that was named
                            each = replace(each, name=f"{run.name} seed={each.evidence.config['seed']}")
                        below.append(each)
                        yield each
            if evidence.wrong:
                raise Differs(*evidence.wrong)
            lines, ways, steps = _above(evidence, below) if above else _compare(request, evidence, config, notes)
            held, stated = _held(evidence, ways)
            verdict = replace(verdict, word=REPRODUCED, lines=lines, held=held, stated=stated, steps=steps)
        except Differs as error:
            more = [f"and {len(error.args) - MOST_LINES} more"] if len(error.args) > MOST_LINES else []
            verdict = replace(verdict, word=DIFFERS, lines=[*error.args[:MOST_LINES], *more])
        except OdysseyError as error:
            verdict = replace(verdict, lines=lines_of(error))
        yield replace(verdict, lines=[*verdict.lines, *notes])


def _compare(request: Request, evidence: Evidence, config: VerifyConfig, notes: list[str]) -> Found:
    """Holds one run's statements against each other and against training it again; what else there is to know of it
    goes to the notes. Raises Differs; OdysseyError: something that it needs is missing or has changed: it cannot be
    verified."""
    asked = evidence.config
    if (task := asked["task"]["name"]) != "train":
        raise DataError(f"it is a run of task={task}; verify the run that trained")
    again = _again(request, evidence, asked)
    notes += _environment(evidence)
    if line := _other_code(evidence, again.plugins):
        if not config.any_code:
            raise DataError(f"{line}; verify.any_code=true compares all the same")
        notes.append(line)
    assembly = assemble(again)
    if evidence.tags.get(Tag.DATA_DIGEST) != assembly.dataset.digest:
        now, was = assembly.dataset.digest[:12], _short(evidence, Tag.DATA_DIGEST)
        line = f"the data differs (SHA-256 {now}, the run's {was})"
        raise DataError(f"{line}; data.root= may name the folder with the right files")
    if evidence.tags.get(Tag.START_DIGEST) != assembly.start:
        raise DataError(f"{again.weights} does not hold the weights that the run began with")
    found = _derived(evidence, asked, assembly)
    _hold(evidence.stated, found, ("params/", "tags/odyssey.data.", *CLAIMED))
    ways = dict.fromkeys((*found, "data", f"tags/{Tag.START_DIGEST}"), DERIVED)
    if not line:
        ways |= dict.fromkeys((f"tags/{name}" for name in (Tag.CODE_DIGEST, *plugins.tags(again.plugins))), DERIVED)
    lines, trained, steps = train_again(again, assembly, evidence, config.steps)
    return lines, ways | trained, steps


def _again(request: Request, evidence: Evidence, config: dict[str, Any]) -> Request:
    """What trains the run again. Raises DataError: a plug-in is missing; Faults: the configuration is not one of this
    program's: why, and what it cannot read."""
    if missing := plugins.missing(plugins.recorded(evidence.tags), request.plugins):
        raise DataError("; ".join(missing))
    here, files = request.config, tuple(plugin for plugin in request.plugins if plugin.is_file)
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in completed(config).items()}
    # Neither the number of threads nor where the data lies is of the run.
    if "threads" in config["backend"]:
        config["backend"]["threads"] = here["backend"].get("threads")
    if "root" in config["data"] and here["data"].get("root") is not None:
        config["data"]["root"] = here["data"]["root"]
    try:
        again = check({**config, "task": {"name": "train"}}, plugins=files)
    except Faults as faults:
        line = _other_code(evidence, files)
        found = (fault.partition("; ")[0] for fault in faults.lines)  # a run that has ended cannot be set otherwise
        raise Faults([*filter(None, [line]), "this version cannot read the run's configuration", *found]) from None
    # Its own store is recorded without a password.
    return replace(again, expect={}, resume=None, tracking=request.tracking)


def _other_code(evidence: Evidence, now: Sequence[plugins.Plugin]) -> str:
    """How the code or the plug-ins differ from the run's; empty where they do not."""
    code = sources.digest(now)
    if evidence.tags.get(Tag.CODE_DIGEST) == code:
        return ""
    line = "; ".join(plugins.unlike(plugins.recorded(evidence.tags), now))
    return line or f"the code differs (SHA-256 {code[:12]}, the run's {_short(evidence, Tag.CODE_DIGEST)})"


def _held(evidence: Evidence, compared: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """How many statements were held in which way, and those that are only stated. What was not trained or computed
    again, as `compared` tells, is held by its digest if it is a file."""
    digests = ("files/", "models/", "journal", "children/")
    ways = {n: COMPARED for n, value in evidence.stated.items() if n.startswith(digests) and value is not None}
    ways |= {name: way for name, way in compared.items() if name in evidence.stated}
    counts = Counter(ways.values())
    return {way: counts[way] for way in HELD if counts[way]}, sorted(evidence.stated.keys() - ways.keys())


def _derived(evidence: Evidence, config: dict[str, Any], assembly: Assembly) -> dict[str, Any]:
    """Statements that follow from others or from the data."""
    found = _parameters(config)
    data = provenance.data_tags(assembly.dataset, "")
    found |= {f"tags/{name}": value for name, value in data.items() if name.startswith("odyssey.data.")}
    if evidence.stated["status"] == Status.FINISHED:
        found |= _claims(config, evidence.records.last)
        rows = claims.report(config["expect"], evidence.records.last)
        note = summary.note(evidence.records, rows, f"files/{REPORT}" in evidence.stated)
        found[f"tags/{Tag.NOTE}"] = note
    weights = evidence.stated.get(f"files/{recorded.weights_file(config['model']['name']).as_posix()}")
    kept = [name for name in evidence.stated if name.startswith("models/") and name.endswith(".safetensors")]
    found |= dict.fromkeys(kept, weights)
    # Which machine it was is only stated, but it must be.
    machine = {f"tags/{name}": value for name, value in provenance.machine_tags().items()}
    return found | {name: value for name, value in machine.items() if name not in evidence.stated}


def _hold(stated: Mapping[str, Any], found: Mapping[str, Any], alone: tuple[str, ...]) -> None:
    """Raises Differs: something is stated otherwise than it is computed again, or something that is not computed has a
    name that begins as one of `alone`."""
    hold({n: v for n, v in stated.items() if n in found or n.startswith(alone)}, found, "stated {}, computed again {}")


def _above(evidence: Evidence, below: Sequence[Verdict]) -> Found:
    """Holds the statements of a run above others against theirs and against what is computed from them. Raises
    Differs; DataError: one of those cannot be verified."""
    if failed := [each.word for each in below if each.word != REPRODUCED]:
        line = f"{len(failed)} of the {len(below)} runs below are not {REPRODUCED}"
        raise DataError(line) if CANNOT in failed else Differs(line)
    config, ended = evidence.config, [each.evidence for each in below if each.evidence]
    alone: tuple[str, ...] = ("params/",)
    stated, found = dict(evidence.stated), _parameters(config)
    if "sweep" not in config:
        alone += ("metrics/", *CLAIMED)
        rest = {"seeds": 1, "expect": {}, "resume": None}
        found[PARTS] = [{**config, "seed": config["seed"] + i, **rest} for i in range(len(ended))]
        stated[PARTS] = sorted((each.records.config for each in ended), key=lambda each: int(each["seed"]))
        found |= _of_seeds(evidence, config, ended)
    _hold(stated, found, alone)
    names = [*found, *(name for name in stated if name.startswith("children/"))]
    # What means of times follow from is only stated.
    names = [name for name in names if not name.removeprefix("metrics/").startswith(OF_THE_MACHINE)]
    steps = min((each.steps for each in below if each.steps is not None), default=None)
    return [f"its {len(below)} runs, and what follows from them"], dict.fromkeys(names, DERIVED), steps


def _parameters(config: dict[str, Any]) -> dict[str, Any]:
    found = {f"params/{key}": value[:MAX_PARAM] for key, value in provenance.parameters(config).items()}
    return found | {f"tags/{Tag.CONFIG_DIGEST}": provenance.identity(config)}


def _of_seeds(evidence: Evidence, config: dict[str, Any], ended: Sequence[Evidence]) -> dict[str, Any]:
    """What a run of several seeds states of their means: nothing before all of them have finished."""
    found: dict[str, Any] = {f"tags/{Tag.SEEDS}": str(config["seeds"])}
    if evidence.stated["status"] != Status.FINISHED:
        return found
    finished = sum(each.stated["status"] == Status.FINISHED for each in ended)
    if finished != config["seeds"]:
        return found | {"status": f"{finished} of {config['seeds']} runs finished"}
    names = [name for name in evidence.stated if name.startswith("metrics/")]
    points = {name.removeprefix("metrics/"): evidence.stated[name] for name in names}
    means = claims.means([each.records.last for each in ended])
    found |= {f"metrics/{n}": [[p[0], means.get(n), p[2]] for p in own] for n, own in points.items()}
    return found | _claims(config, {n: own[-1][1] for n, own in points.items()}) | {"status": Status.FINISHED.value}


def _claims(config: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, Any]:
    rows = claims.report(config["expect"], metrics)
    held = claims.HELD if claims.all_held(rows) else claims.MISSED
    return dict(zip(CLAIMED, (held, statements.sha256(claims.encode(rows))), strict=True)) if rows else {}


def _environment(evidence: Evidence) -> list[str]:
    """What is not as it was where the run was made: no reason to differ, but the first place to look."""
    tags = evidence.tags
    now = provenance.environment_tags()
    other = [(name, tags[name], value) for name, value in now.items() if tags.get(name, value) != value]
    notes = [f"{name.removeprefix('odyssey.')} was {was}, is {value}" for name, was, value in other]
    if tags.get(Tag.DIRTY) == "true":
        notes.append("the code of the run had changes that were not committed: uncommitted.diff among its artifacts")
    return notes


def _short(evidence: Evidence, tag: Tag) -> str:
    return evidence.tags.get(tag, "unknown")[:12]


def _record(run: InMLflow, request: Request, verdicts: Sequence[Verdict]) -> None:
    """Leaves the verdicts in a run of verification's own, under the one that was verified, and as a tag on each.

    Nothing is written as an artifact: where those go is said by the store, which may be somebody else's.
    """
    tags = {
        Tag.PARENT: run.run_id,
        Tag.NOTE: "\n\n".join(verdict.markdown() for verdict in verdicts)[:NOTE],
        Tag.VERIFIES: run.run_id,
        Tag.VERIFIED: verdicts[-1].title,
        **provenance.tags(request),
        **provenance.of_commit()[0],
    }
    made = run.client.create_run(run.experiment, tags=sent(tags), run_name=f"verify {run.name}")
    for verdict in verdicts:
        run.client.set_tag(verdict.where, Tag.VERIFIED.value, verdict.title)
    run.client.set_terminated(made.info.run_id)
