"""MLflow's client for a store, made without its costs and traps, and what its errors mean."""

import contextlib
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from odyssey_core.errors import ConfigError
from odyssey_core.files import locked, write_atomic
from odyssey_core.machine import installed_version
from odyssey_core.places import cache_home
from odyssey_run.config.masking import masked
from odyssey_run.tracking.location import ARTIFACT_FOLDER, Store, check_driver, local_path, sqlite_uri
from odyssey_run.tracking.names import Status, Tag
from odyssey_run.tracking.records import Created

ENVIRONMENT = {"DISABLE_TELEMETRY": "true", "SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
ENVIRONMENT |= {"HTTP_REQUEST_MAX_RETRIES": "1", "HTTP_REQUEST_TIMEOUT": "10", "ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
MAX_FAULT = 200  # characters of MLflow's message
ANSWER = 10  # seconds to wait for a database
# What MLflow answers with to what it will never take, however often it is sent.
REFUSALS = {
    "ALREADY_EXISTS",
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}
DENIALS = {"CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED", "UNAUTHENTICATED"}
HOST_REFUSED = (
    "; an mlflow server that is called by a host's name must know it: "
    "mlflow server --host 0.0.0.0 --allowed-hosts 'HOST:*' --cors-allowed-origins http://HOST:PORT"
)
# What MLflow sets for each of its sessions on SQLite.
SETTINGS = ("foreign_keys = ON", "busy_timeout = 20000", "case_sensitive_like = true")
_REASON = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")  # in what requests wraps around the system's own words
# Where MLflow's tables hold places of artifacts.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def import_mlflow() -> Any:
    """MLflow's client class. Its settings are read at import: no telemetry, no minutes of retries within one call."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    import logging

    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient


def make_client(store: Store) -> Any:
    client = import_mlflow()
    if store.database is None and store.artifact_location is not None:
        _knock(store)
    with alone(store.database):  # the client makes the tables of an empty store
        if store.database and store.database.exists():
            follow_folder(store.database)
        elif store.database:
            _make_tables(client, store.database)
        return client(store.uri)


def reach(store: Store) -> Any:
    """MLflow's client for a store. Raises ConfigError where that does not answer."""
    check_driver(store)
    with answering(store):
        client = make_client(store)
        client.search_experiments(max_results=1)
    return client


def every_run(client: Any, experiments: Sequence[str], condition: str, order: Sequence[str] = ()) -> Iterator[Any]:
    """The runs that fit a condition, page after page: one answer of MLflow's has a thousand at most."""
    token, more = None, True
    while more:
        page = client.search_runs(experiments, condition, order_by=list(order), page_token=token)
        yield from page
        token = page.token
        more = bool(token)


@contextlib.contextmanager
def answering(store: Store) -> Iterator[None]:
    """A block in which MLflow is asked for several things. Raises ConfigError where it does not answer."""
    try:
        yield
    except Exception as error:  # whatever a database or a server answers with
        raise ConfigError(f"tracking.uri: MLflow at {store.shown} does not answer: {fault_of(error)}") from None


def put(source: Path, folder: str, location: str, uri: str) -> None:
    """Copies a file, or what is in a folder, below a location of artifacts.

    MLflow's client would ask the store for the location first, which the answer that made the run has told, and on this
    machine check every path several times.

    Args:
        folder: below the location; "" for the location itself.
        uri: of the MLflow store, which passes on artifacts of its own.

    Raises:
        Exception: whatever the file system, or MLflow's way to another machine, raises.
    """
    if here := local_path(location):
        within = source if source.is_dir() else source.parent
        for path in filter(Path.is_file, source.rglob("*") if source.is_dir() else [source]):
            to = here / folder / path.relative_to(within)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
        return
    repository = artifacts_at(location, uri)
    send = repository.log_artifacts if source.is_dir() else repository.log_artifact
    send(str(source), folder or None)


@lru_cache(maxsize=16)
def artifacts_at(location: str, uri: str) -> Any:
    """MLflow's way to files at a location; arguments as `put` takes them."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location, tracking_uri=uri)


def end_orphans(
    store: Store, parent: Created, since: int, journals: Mapping[str, Path], follow: Callable[[Path], None]
) -> None:
    """Ends the runs under a run that MLflow takes to be running after its workers have sent all: their process died.

    Args:
        parent: the ids of the run above.
        since: milliseconds since 1970; what began earlier belongs to another sweep.
        journals: those that are on this machine, by the key of the run; they tell how it ended.
        follow: sends one; a run without a journal here is marked as killed.

    Raises:
        ConfigError: the store does not answer.
    """
    client = reach(store)
    condition = f"attributes.status = 'RUNNING' and tags.`{Tag.PARENT}` = '{parent.run_id}'"
    with answering(store):
        for run in list(every_run(client, [parent.experiment_id], condition)):  # ended runs would shift the pages
            if journal := journals.get(run.data.tags.get(Tag.RUN)):
                follow(journal)
            elif run.info.start_time >= since:
                client.set_terminated(run.info.run_id, Status.KILLED.value)


def fault_of(error: BaseException) -> str:
    """One line, with what to do where that is known, and without passwords."""
    text: str = masked(str(error).strip())
    if "Max retries exceeded" in text and (found := _REASON.search(text)):
        return found[1]
    first = (text.splitlines() or [type(error).__name__])[0][:MAX_FAULT]
    return first + HOST_REFUSED if "Invalid Host header" in text else first


def refuses(error: BaseException) -> bool:
    """Whether MLflow will never take what it answered to in this way.

    Of two processes that record the same data at once, the second is told of a constraint; its next try is taken.
    """
    return getattr(error, "error_code", None) in REFUSALS and not repeated(error)


def repeated(error: BaseException) -> bool:
    """Whether a database says that it has what it was sent, from another process or an earlier attempt."""
    return "IntegrityError" in str(error)


def is_deleted(client: Any, run_id: str) -> bool:
    """Whether MLflow has no such run, or no longer shows it."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "deleted")
    except Exception as error:
        if refuses(error):
            return True
        raise


def silent(error: BaseException) -> bool:
    """Whether nothing can be sent now: MLflow does not answer, or denies access."""
    code = getattr(error, "error_code", None)
    return code in DENIALS or code == "TEMPORARILY_UNAVAILABLE" or isinstance(error, OSError | ImportError)


def _knock(store: Store) -> None:
    """Fails at once where a database does not answer: MLflow's client tries for two minutes."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(store.uri, poolclass=sqlalchemy.NullPool)
    try:
        engine.connect().close()
    except sqlalchemy.exc.OperationalError as error:
        raise ConnectionError(str(error.orig).strip().replace("\n", " ")) from None


def _make_tables(client: Any, database: Path) -> None:
    """A file with all of MLflow's tables or none: one killed among them leaves a store that never opens again.

    MLflow makes them in as many steps as its versions took, for seconds; without rows they are kept for the next store.
    """
    for left in database.parent.glob(f".{database.name}.*"):
        left.unlink()
    temporary = database.with_name(f".{database.name}.{secrets.token_hex(4)}")  # MLflow remembers what it opened
    kept = cache_home() / "mlflow" / f"{installed_version('mlflow')}.db"
    if not _copied(kept, temporary):
        temporary.unlink(missing_ok=True)
        client(sqlite_uri(temporary)).search_experiments()
        with contextlib.closing(sqlite3.connect(temporary, timeout=ANSWER)) as connection, connection:
            connection.execute("DELETE FROM experiments")  # MLflow makes its first one again, for the place of the file
        with contextlib.suppress(OSError):  # a full disk, a cache that cannot be written
            write_atomic(kept, temporary.read_bytes(), durable=False)
    os.replace(temporary, database)


def _copied(kept: Path, database: Path) -> bool:
    """Copies empty tables; False where there are none, or where the file is damaged."""
    try:
        shutil.copyfile(kept, database)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return whole and bool(connection.execute("SELECT * FROM alembic_version").fetchone())
    except (OSError, sqlite3.DatabaseError):
        return False


def follow_folder(database: Path) -> None:
    """Makes a store that was moved or copied with its artifacts look for them where they are now.

    MLflow keeps absolute places. Without this, runs would be written into the folder of before, and the models and
    pictures of older ones not be found.
    """
    here = database.parent / ARTIFACT_FOLDER
    if not here.is_dir():
        return
    with contextlib.closing(sqlite3.connect(database, timeout=ANSWER)) as connection:
        try:
            found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
            for before in (place for (place,) in found if place and place.endswith(f"/{ARTIFACT_FOLDER}")):
                if before != here.as_uri() and _went_along(connection, before, database):
                    _rewrite(connection, before, here.as_uri())
            connection.commit()
        except sqlite3.DatabaseError:  # it is not a database of MLflow, and MLflow will say so
            return


def _went_along(connection: sqlite3.Connection, before: str, database: Path) -> bool:
    """Whether what was at a place is beside the database now: the old folder is gone, or has the same database."""
    old = Path(unquote(urlsplit(before).path))
    if old.exists() and not (old.parent / database.name).exists():
        return False  # somebody's choice
    query = "SELECT substr(artifact_uri, ?) FROM runs WHERE substr(artifact_uri, 1, ?) = ?"
    runs = connection.execute(query, (len(before) + 2, len(before) + 1, f"{before}/")).fetchall()
    return not runs or any((database.parent / ARTIFACT_FOLDER / unquote(rest)).exists() for (rest,) in runs)


def _rewrite(connection: sqlite3.Connection, before: str, now: str) -> None:
    for table, column in _PLACES:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
        )


@contextlib.contextmanager
def transaction(client: Any) -> Iterator[None]:
    """A block whose calls are one transaction of a SQLite file; whatever is raised in it leaves nothing there.

    Each of MLflow's calls commits up to five times, and each commit waits for the disk: about ten times for a run of a
    sweep, 29 ms each where this was measured. MLflow offers no way around that, so its store is given sessions that
    leave the commit to this block. It also asks for the experiment twice for each run, a tenth of its time: here, where
    nobody else writes, it is told once. Its registry of models has another store, which must not be called here: it
    would wait.

    Raises:
        MlflowException, SQLAlchemyError: also where MLflow itself got over an error within a call.
    """
    from sqlalchemy.exc import InvalidRequestError
    from sqlalchemy.orm import Session

    store, errors = client._tracking_client.store, list[BaseException]()
    of_mlflow, known = store.ManagedSessionMaker, cache(store.get_experiment)

    @contextlib.contextmanager
    def session(read_only: bool = True) -> Iterator[Session]:
        with Session(connection, join_transaction_mode="rollback_only", expire_on_commit=False) as made:
            try:
                yield made
                made.commit()
            except BaseException as error:
                errors.append(error)
                raise

    with store.engine.connect() as connection, connection.begin() as whole:
        for setting in SETTINGS:
            connection.exec_driver_sql(f"PRAGMA {setting}")
        store.ManagedSessionMaker, store.get_experiment = session, known
        try:
            yield
        finally:
            store.ManagedSessionMaker = of_mlflow
            del store.get_experiment  # the class has it
        if errors or not whole.is_active:
            raise InvalidRequestError("a part of the transaction failed") from (errors[0] if errors else None)


def alone(database: Path | None) -> contextlib.AbstractContextManager[None]:
    """One process at a time: several that open an empty SQLite store together crash in its migrations."""
    return contextlib.nullcontext() if database is None else locked(database.parent)
