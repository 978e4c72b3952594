"""The run-level groups. Components have none: their constructors' annotations are their schema.

No field has a default: defaults are in conf/, and only there.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from odyssey_core.optim.optimizer import ClipNorm, Lookahead, StepRule
from odyssey_core.ranges import Count, Range, Share
from odyssey_core.views import TestViews

SEEDS = Range(0, 2**63 - 1)


@dataclass(frozen=True)
class TrainerConfig:
    """How long and in what portions to train.

    Args:
        epochs: passes over the training images.
        batch_size: images in one optimizer step.
        max_steps: optimizer steps after which training ends, even inside an epoch.
        log_every: optimizer steps in one ``train/loss``.
        validation_size: images taken from the training set; 0 trains on all and validates on none; null takes 5,000,
            or a tenth where there are fewer than 50,000, but at least one of each class, and none where even that
            would be more than half.
        train_size: train on so many images alone, drawn by the seed; null trains on all.
        clip_norm: the gradient is scaled down where its norm, over all parameters, is above this; null for never.
        ema: largest decay of a running average of the weights, which is evaluated and kept; null for none.
        lookahead: slow weights that the weights go back to every few steps, which are evaluated and kept; null for
            none.
        tta: test-time augmentation: what the model says of an image is the mean over it and its mirror image, or over
            these and the same moved by a pixel, wherever it is evaluated or used; null for the image alone.
        monitor: the metric that says which weights are best.
        keep: weights to test and to keep: of the last step, or of the best epoch.
        patience: epochs without a better ``monitor`` after which training ends; null for never.
        time_budget_s: seconds of training after which it ends; null for no limit.
        checkpoint_s: seconds between checkpoints; null for none but the one that a signal leaves.
    """

    epochs: Count
    batch_size: Count
    max_steps: Count | None
    log_every: Count
    validation_size: Annotated[int, Range(0)] | None
    train_size: Count | None
    clip_norm: ClipNorm | None
    ema: Share | None
    lookahead: Lookahead | None
    tta: TestViews | None
    monitor: Literal["val/accuracy", "val/loss"]
    keep: Literal["last", "best"]
    patience: Count | None
    time_budget_s: Annotated[float, Range(0.001)] | None
    checkpoint_s: Annotated[float, Range(0)] | None

    @property
    def step_rule(self) -> StepRule:
        """What a step does beside the optimizer's rule. Raises ConfigError for two averages."""
        return StepRule(self.clip_norm, self.ema, self.lookahead)


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run is recorded beside its own folder.

    Args:
        name: ``mlflow``, or ``none`` for the run's folder alone.
        uri: MLflow's tracking URI; null takes MLFLOW_TRACKING_URI, else SQLite in the working directory.
        experiment: null takes MLFLOW_EXPERIMENT_NAME, else the name of the data.
        register: name in MLflow's registry under which the trained model becomes a new version; null for none.
    """

    name: Literal["mlflow", "none"]
    uri: str | None
    experiment: str | None
    register: str | None


@dataclass(frozen=True)
class FolderConfig:
    """The run's name and folder.

    Args:
        name: null makes ``<model>-<optim>-lr<lr>-s<seed>-<4 hex>``.
        dir: null makes ``runs/<name>`` under the working directory.
    """

    name: str | None
    dir: str | None


@dataclass(frozen=True)
class PlotsConfig:
    """The pictures and the report.

    Args:
        enabled: draw them at the end of a run.
    """

    enabled: bool


@dataclass(frozen=True)
class SweepConfig:
    """How many runs come of one command with ``-m``; no part of any one run.

    Args:
        strategy: ``grid`` for every combination, ``random`` for points drawn from the axes, ``tpe`` for points that
            Optuna proposes in the light of those before.
        name: of the folder under runs/ and, after ``sweep:``, of the run in MLflow; null makes one that the same
            command makes again.
        trials: points in all for random and tpe; null for a grid.
        metric: what points are compared by.
        direction: null minimizes a loss and maximizes an accuracy.
        seed: of what random and tpe draw.
        prune: whether a run is stopped whose metric after an epoch is worse than the median of finished runs; for tpe.
        jobs: runs at once; null for one a core, or one for each thread of a cluster.
        executor: ``local`` processes, or the workers of a ``dask`` scheduler.
        address: of the scheduler, ``tcp://HOST:PORT``.
        dry_run: print the points and run nothing.
        rerun: run again what is done already.
        fail_fast: whether the first failure stops the others.
    """

    strategy: Literal["grid", "random", "tpe"]
    name: str | None
    trials: Annotated[int, Range(1, 10_000)] | None
    metric: Literal["val/accuracy", "val/loss", "test/accuracy", "test/loss", "train/loss"]
    direction: Literal["maximize", "minimize"] | None
    seed: Annotated[int, Range(0, 2**32 - 1)]
    prune: bool
    jobs: Count | None
    executor: Literal["local", "dask"]
    address: str | None
    dry_run: bool
    rerun: bool
    fail_fast: bool

    @property
    def maximizes(self) -> bool:
        """Whether more of the metric is better."""
        return (self.direction or ("minimize" if self.metric.endswith("loss") else "maximize")) == "maximize"


@dataclass(frozen=True)
class VerifyConfig:
    """How ``task=verify`` compares.

    Args:
        steps: compare the run's first optimizer steps alone; null compares all of it, weights and test included.
        any_code: compare even where the code that made the run was another, and say so.
    """

    steps: Count | None
    any_code: bool


@dataclass(frozen=True)
class RunConfig:
    """The root of a configuration; components stay mappings here and are bound to their constructors.

    Args:
        seed: decides initial weights, the order of images, the validation split, masks and distortions.
        seeds: how many runs to take the mean of, for seed, seed + 1, ...
        resume: ``auto`` for the newest unfinished run of this configuration, or a run's name or MLflow id; null begins.
        hooks: code that is called after each epoch: ``name`` and options of each, or its name alone.
        expect: metric to condition, ``{test/accuracy: ">= 0.86"}``; a missed one ends with exit code 3.
    """

    seed: Annotated[int, SEEDS]
    seeds: Annotated[int, Range(1, 1000)]
    resume: str | None
    hooks: list[Any]
    expect: dict[str, Any]
    run: dict[str, Any]
    plots: dict[str, Any]
    trainer: dict[str, Any]
    tracking: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]
    loss: dict[str, Any]
    optim: dict[str, Any]
    scheduler: dict[str, Any]
    backend: dict[str, Any]
    task: dict[str, Any]
