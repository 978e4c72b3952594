"""MLflow's own server, for tests that need a real one."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ALONE = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # without six processes that nothing here needs


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def serve(folder: Path, port: int, *options: str) -> subprocess.Popen:
    """A server that answers, with its database and its artifacts in a folder."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += options or ("--artifacts-destination", str(folder / "there"))
    with open(folder / "server.log", "a") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | ALONE, start_new_session=True, stdout=log, stderr=log
        )
    deadline = time.monotonic() + 90
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def stop(server: subprocess.Popen) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def serving(folder: Path, *options: str):
    """The address of a server that lasts as long as the block."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    server = serve(folder, port, *options)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)
