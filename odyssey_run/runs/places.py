"""Where a run goes, its folder and its store in MLflow: decided and checked before anything is written."""

from odyssey_core.errors import ConfigError
from odyssey_run.config.binding import Faults
from odyssey_run.config.request import Request
from odyssey_run.config.schema import FolderConfig, TrackingConfig
from odyssey_run.runs import folder
from odyssey_run.tracking import names
from odyssey_run.tracking.location import Store, check_driver, resolve


def check_places(request: Request, resuming: bool = False, experiment: str | None = None) -> Store | None:
    """Where a run goes in MLflow, None for nowhere; writes nothing.

    Args:
        resuming: the folder is there already.
        experiment: where the request names none; by default the data's name.

    Raises:
        Faults: a store or a folder that could not be used.
    """
    store, faults = place_faults(request.run, request.tracking, experiment or request.data.name, resuming)
    if faults:
        raise Faults(faults)
    return store


def place_faults(
    run: FolderConfig, tracking: TrackingConfig, experiment: str, resuming: bool
) -> tuple[Store | None, list[str]]:
    """The store that a run goes to, and a line for each thing that is wrong with it or with the run's folder.

    Args:
        experiment: where ``tracking`` names none.
        resuming: the folder is there already.
    """
    faults: list[str] = []
    store = None
    try:
        store = resolve(tracking, experiment)
        if store:
            if fault := names.experiment_fault(store.experiment):
                faults.append(f"tracking.experiment: {fault}, got {store.experiment[:60]!r}")
            if tracking.register is not None and (fault := names.model_fault(tracking.register)):
                faults.append(f"tracking.register: {fault}, got {tracking.register[:60]!r}")
            check_driver(store)
    except ConfigError as error:
        faults.append(str(error))
    try:
        if not resuming:
            folder.check_writable(run)
    except ConfigError as error:
        faults.append(str(error))
    return store, faults
