"""Where MLflow keeps runs: decided and checked without importing MLflow."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from odyssey_core.errors import ConfigError
from odyssey_run.config.masking import HIDDEN, masked
from odyssey_run.config.schema import TrackingConfig

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
OTHERS = ("databricks", "databricks-uc")
DEFAULT_DATABASE, ARTIFACT_FOLDER = "mlflow.db", "mlartifacts"
PORT = 5000
_FILE = re.compile(r"sqlite(?:\+pysqlite)?:///([^?]*)")
# What a database's dialect imports, and what installs it.
DRIVERS = {
    "psycopg": "'ml-odyssey[postgresql]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "pyodbc": "pyodbc",
}


@dataclass(frozen=True)
class Store:
    uri: str = field(repr=False)  # tracking URI, with its password; SQLite with an absolute path
    experiment: str
    artifact_location: str | None  # for the experiment if it must be made; None leaves it to the server

    @property
    def shown(self) -> str:
        """The URI for people and files: without a password."""
        shown: str = masked(self.uri)
        return shown

    @property
    def database(self) -> Path | None:
        """The file of a SQLite store."""
        found = _FILE.match(self.uri)
        return Path(unquote(found[1])) if found else None

    def named_in(self, folder: Path) -> str:
        """What a run's journal calls the store: relative to the run's folder where that lies in the store's.

        The two may then be moved together, and the runs of a folder that was copied are not those of the first one.
        """
        database, folder = self.database, folder.absolute()
        if database and folder.is_relative_to(database.parent):
            return sqlite_uri(Path(os.path.relpath(database, folder)))
        return self.shown

    @property
    def served(self) -> bool:
        """Whether a server shows the store's pages already."""
        return self.uri.startswith(SERVERS) or urlsplit(self.uri).scheme in OTHERS

    def address(self, experiment_id: str, run_id: str) -> str:
        """The page of a run. Without the workflow type MLflow opens on an empty overview of traces."""
        server = self.shown.rstrip("/") if self.uri.startswith(SERVERS) else f"http://127.0.0.1:{PORT}"
        return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def resolve(config: TrackingConfig, data: str, environment: Mapping[str, str] = os.environ) -> Store | None:
    """The store that a configuration and the environment mean; None for ``tracking=none``. If nothing else names the
    experiment, the data do.

    Raises:
        ConfigError: a URI that MLflow could not use, or a SQLite file in a folder that cannot be written.
    """
    if config.name == "none":
        return None
    experiment = config.experiment or environment.get("MLFLOW_EXPERIMENT_NAME") or data
    if config.uri is not None:
        source, uri = "tracking.uri", config.uri
    elif environment.get("MLFLOW_TRACKING_URI"):
        source, uri = "MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"]
    else:
        source, uri = "tracking.uri", f"sqlite:///{DEFAULT_DATABASE}"
    scheme = host = ""
    with suppress(ValueError):  # brackets that hold no IPv6 address
        scheme, host = urlsplit(uri).scheme, urlsplit(uri).netloc
    known = scheme.partition("+")[0] in DATABASES or scheme in (*SERVERS, *OTHERS) or uri in OTHERS
    if not known or (scheme in SERVERS and not host):
        hint = " (MLflow no longer writes to folders)" if scheme in ("", "file") else ""
        raise ConfigError(
            f"{source}: expected sqlite:///FILE, http://HOST:PORT or a database URI, got {masked(uri)!r}{hint}; "
            "or run with tracking=none"
        )
    if HIDDEN in uri:
        raise ConfigError(f"{source}: {HIDDEN} is a masked password, which is not kept; write the password itself")
    if scheme.startswith("sqlite"):
        return _sqlite(source, uri, experiment)
    if any(letter.isspace() for letter in uri):
        raise ConfigError(
            f"{source}: white space in an address is written %20, got {masked(uri.split()[0])!r} and more"
        )
    location = (Path.cwd() / ARTIFACT_FOLDER).as_uri() if scheme.partition("+")[0] in DATABASES else None
    return Store(uri, experiment, location)


def check_driver(store: Store) -> None:
    """Raises ConfigError where the package that reaches a database is not installed, and says how to install it."""
    if store.database or urlsplit(store.uri).scheme.partition("+")[0] not in DATABASES:
        return
    from sqlalchemy.engine import make_url

    try:
        make_url(store.uri).get_dialect().import_dbapi()
    except ImportError as error:
        name = getattr(error, "name", None) or str(error)
        what = f"pip install {DRIVERS[name]}" if name in DRIVERS else "install it"
        raise ConfigError(f"tracking.uri: {store.shown} needs the driver {name}; {what}") from None
    except Exception as error:  # SQLAlchemy's, for an address that it cannot read or a dialect that is not there
        raise ConfigError(f"tracking.uri: {store.shown}: {masked(str(error).splitlines()[0])}") from None


def local_path(location: str) -> Path | None:
    """The folder on this machine that a location of artifacts names; None for any other location."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location).absolute()


def sqlite_uri(path: Path, query: str = "") -> str:
    """The URI of a SQLite file. SQLAlchemy takes ``?`` for the begin of a query and decodes ``%``; MLflow, which looks
    for the folder of a plain ``sqlite:///`` before that, would make another one under the encoded name."""
    plain = str(path)
    quoted = plain.replace("%", "%25").replace("?", "%3F")
    return f"sqlite{'' if quoted == plain else '+pysqlite'}:///{quoted}{query and '?' + query}"


def absolute(uri: str, folder: Path) -> str:
    """The URI that `Store.named_in` gave for a run in a folder, for use elsewhere."""
    found = _FILE.match(uri)
    return sqlite_uri((folder / unquote(found[1])).resolve()) if found else uri


def _sqlite(source: str, uri: str, experiment: str) -> Store:
    found = _FILE.match(uri)
    if not found or not found[1] or found[1].endswith("/"):
        raise ConfigError(f"{source}: expected sqlite:///FILE with three slashes, got {masked(uri)!r}")
    database = Path.cwd() / unquote(found[1])
    for place in (database, database.parent):
        if (place.exists() or place == database.parent) and not os.access(place, os.W_OK):
            raise ConfigError(f"{source}: {place} is missing or cannot be written; choose another, or tracking=none")
    artifacts = database.parent / ARTIFACT_FOLDER
    return Store(sqlite_uri(database, uri.partition("?")[2]), experiment, "file://" + quote(str(artifacts)))
