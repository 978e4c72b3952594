"""Where MLflow keeps runs: decided and checked without importing MLflow."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from odyssey_core.errors import ConfigError
from odyssey_run.schema import TrackingConfig

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
OTHERS = ("databricks", "databricks-uc")
DEFAULT_DATABASE, ARTIFACT_FOLDER = "mlflow.db", "mlartifacts"
PORT = 5000


@dataclass(frozen=True)
class Store:
    """An MLflow store and the experiment in it.

    Args:
        uri: tracking URI; SQLite with an absolute path.
        experiment: name.
        artifact_location: for the experiment if it must be made; None leaves it to the server.
    """

    uri: str
    experiment: str
    artifact_location: str | None

    @property
    def database(self) -> Path | None:
        """The file of a SQLite store."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    def command(self) -> str | None:
        """The shell command that shows the store; None where a server already does."""
        if self.uri.startswith(SERVERS) or urlsplit(self.uri).scheme in OTHERS:
            return None
        if self.database == Path.cwd() / DEFAULT_DATABASE:
            return "mlflow ui"
        return f"mlflow ui --backend-store-uri '{self.uri}'"

    def address(self, experiment_id: str, run_id: str) -> str:
        """The page of a run. Without the workflow type MLflow opens on an empty overview of traces."""
        server = self.uri.rstrip("/") if self.uri.startswith(SERVERS) else f"http://127.0.0.1:{PORT}"
        return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def resolve(config: TrackingConfig, data: str, environment: Mapping[str, str] = os.environ) -> Store | None:
    """The store that a configuration and the environment mean; None for ``tracking=none``.

    Args:
        config: the tracking group.
        data: name of the data, which names the experiment if nothing else does.
        environment: for MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.

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
    scheme, host = urlsplit(uri).scheme, urlsplit(uri).netloc
    known = scheme.partition("+")[0] in DATABASES or scheme in (*SERVERS, *OTHERS) or uri in OTHERS
    if not known or (scheme in SERVERS and not host):
        hint = " (MLflow no longer writes to folders)" if scheme in ("", "file") else ""
        raise ConfigError(
            f"{source}: expected sqlite:///FILE, http://HOST:PORT or a database URI, got {uri!r}{hint}; "
            "or run with tracking=none"
        )
    if scheme == "sqlite":
        return _sqlite(source, uri, experiment)
    location = (Path.cwd() / ARTIFACT_FOLDER).as_uri() if scheme.partition("+")[0] in DATABASES else None
    return Store(uri, experiment, location)


def _sqlite(source: str, uri: str, experiment: str) -> Store:
    path = uri.removeprefix("sqlite:///")
    if path == uri or not path or path.endswith("/"):
        raise ConfigError(f"{source}: expected sqlite:///FILE with three slashes, got {uri!r}")
    database = Path.cwd() / path
    for place in (database, database.parent):
        if (place.exists() or place == database.parent) and not os.access(place, os.W_OK):
            raise ConfigError(f"{source}: {place} is missing or cannot be written; choose another, or tracking=none")
    artifacts = database.parent / ARTIFACT_FOLDER
    return Store(f"sqlite:///{database}", experiment, "file://" + quote(str(artifacts)))
