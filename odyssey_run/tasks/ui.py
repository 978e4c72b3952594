"""``task=ui``: MLflow's pages on the store that runs are sent to."""

import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

from odyssey_core.errors import ConfigError
from odyssey_core.ranges import Range

if TYPE_CHECKING:
    from odyssey_run.assemble import Request


def ui(request: "Request", port: Annotated[int, Range(1, 65535)]) -> int:
    """Starts MLflow's server until it is interrupted, or says where it already runs.

    Returns:
        The server's exit code.

    Raises:
        ConfigError: no store, or none yet.
    """
    from odyssey_run.tracking.location import resolve

    store = resolve(request.tracking, request.data.name)
    if store is None:
        raise ConfigError("tracking: none keeps no store to look at; leave it out, or set tracking.uri")
    page = "/#/experiments?workflowType=machine_learning"
    if store.command() is None:
        print(f"{store.uri.rstrip('/')}{page}")
        return 0
    if store.database and not store.database.exists():
        raise ConfigError(f"tracking.uri: no runs yet in {store.database}; train one first, or set tracking.uri")
    print(f"http://127.0.0.1:{port}{page}  (in about 8 s; Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--port", str(port)]
    command += ["--workers", "1"]  # four, its own choice, take a minute to start on two cores
    server = subprocess.Popen(command)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return server.wait()
    finally:
        server.kill()
