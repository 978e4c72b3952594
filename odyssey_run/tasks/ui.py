"""``task=ui``: MLflow's pages on the store that runs are sent to."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Annotated

from odyssey_core.errors import ConfigError
from odyssey_core.ranges import Range
from odyssey_run.config.request import Request
from odyssey_run.tracking.location import check_driver, resolve

HOST = "127.0.0.1"
STOPPED = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


def ui(request: Request, port: Annotated[int, Range(1, 65535)]) -> int:
    """Starts MLflow's server until it is interrupted, or says where it already runs; returns its exit code."""
    store = resolve(request.tracking, request.data.name)
    if store is None:
        raise ConfigError("tracking: none keeps no store to look at; leave it out, or set tracking.uri")
    page = "/#/experiments?workflowType=machine_learning"
    if store.served:
        print(f"{store.shown.rstrip('/')}{page}")
        return 0
    if store.database and not store.database.exists():
        raise ConfigError(f"tracking.uri: no runs yet in {store.database}; train one first, or set tracking.uri")
    check_driver(store)
    try:
        with socket.create_server((HOST, port)):
            pass
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"port: {port} is not free ({why}); choose another: port=5001") from None
    print(f"http://{HOST}:{port}{page}  (in about 8 s; Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    # One worker and no queue of jobs: 2 processes in place of 15. The address, which may hold a password, is not for a
    # command line that everybody can read. Warnings, and a line for each request, would push ours off the screen.
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    small = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": store.uri}
    quiet = {"PYTHONWARNINGS": "ignore"}
    apart = 0 if os.name == "posix" else None  # Ctrl-C is ours to answer
    for number in STOPPED:
        signal.signal(number, signal.default_int_handler)
    server = subprocess.Popen(command, env=os.environ | small | quiet, process_group=apart)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL) if os.name == "posix" else server.kill()
        server.wait()
