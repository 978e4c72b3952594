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
    """How long to train, in which portions, and what is kept.

    Args:
        epochs: passes over the training images.
        batch_size: images in one optimizer step.
        max_steps: training stops after this many optimizer steps, even inside an epoch; null for no limit.
        log_every: ``train/loss`` is recorded every so many optimizer steps, as the mean over them.
        validation_size: images set aside from the training set for validation; 0 trains on all of them and skips
            validation. null sets 5,000 aside, or a tenth of fewer than 50,000, but at least one of each class; if even
            that is more than half, none.
        train_size: train on only this many images, chosen by the seed; null trains on all.
        clip_norm: the gradient is scaled down to this norm, taken over all parameters, where it is larger; null never.
        ema: largest decay of a running average of the weights, which is evaluated and kept; null for none.
        lookahead: every few steps the weights return to slowly moving ones, which are evaluated and kept; null for
            none.
        tta: test-time augmentation: a prediction is the mean over the image and its mirror image, or over these and
            both shifted by a pixel, in the test and wherever the model is used; null for the image alone.
        monitor: the metric that decides which weights are best.
        keep: the weights that are tested and kept: those of the last step, or of the best epoch.
        patience: training stops after this many epochs without a better ``monitor``; null for no limit.
        time_budget_s: training stops after this many seconds; null for no limit.
        checkpoint_s: seconds between checkpoints; with null there is one only when a signal stops the run.
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
        """What a step does besides the optimizer's rule. Raises ConfigError for two averages."""
        return StepRule(self.clip_norm, self.ema, self.lookahead)


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run is recorded besides its own folder.

    Args:
        name: ``mlflow``, or ``none`` for the run's folder alone.
        uri: MLflow's tracking URI; null takes MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working directory.
        experiment: MLflow's experiment; null takes MLFLOW_EXPERIMENT_NAME, else the name of the data.
        register: register the trained model under this name in MLflow's registry, as a new version; null does not.
    """

    name: Literal["mlflow", "none"]
    uri: str | None
    experiment: str | None
    register: str | None


@dataclass(frozen=True)
class FolderConfig:
    """The run's name and folder.

    Args:
        name: the run's name; null makes ``<model>-<optim>-lr<lr>-s<seed>-<4 hex>``.
        dir: the run's folder; null takes ``runs/<name>`` in the working directory.
    """

    name: str | None
    dir: str | None


@dataclass(frozen=True)
class PlotsConfig:
    """The pictures and the report.

    Args:
        enabled: draw pictures and write ``report.html`` at the end of a run.
    """

    enabled: bool


@dataclass(frozen=True)
class SweepConfig:
    """How the runs of one command with ``-m`` are chosen and executed; no part of any one run.

    Args:
        strategy: ``grid`` for every combination, ``random`` for points drawn at random, ``tpe`` for points that
            Optuna proposes from the results so far.
        name: name of the sweep's folder in runs/ and, after ``sweep:``, of its run in MLflow; null makes one from what
            varies, the same for the same command.
        trials: number of points for random and tpe, those of earlier commands included; null for a grid.
        metric: the metric that points are compared by.
        direction: null minimizes a loss and maximizes an accuracy.
        seed: seed of the points that random and tpe draw.
        prune: with tpe, stop a run whose metric after an epoch is worse than the median of the finished runs.
        jobs: runs at the same time; null for one on each core, or one for each thread of a cluster.
        executor: ``local`` processes, or the workers of a ``dask`` scheduler.
        address: address of the scheduler, ``tcp://HOST:PORT``.
        dry_run: print the points and run nothing.
        rerun: run finished points again.
        fail_fast: stop all runs when the first one fails.
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
        steps: compare only this many of the first optimizer steps; null compares all, with weights and test.
        any_code: compare even if the run was made with different code, and mention that.
    """

    steps: Count | None
    any_code: bool


@dataclass(frozen=True)
class RunConfig:
    """The root of a configuration; components stay mappings here and are bound to their constructors.

    Args:
        seed: decides initial weights, the order of images, the validation split, dropout and augmentation.
        seeds: number of runs, for seed, seed + 1, ..., whose mean is reported.
        resume: ``auto`` for the newest unfinished run of this configuration, or the name or MLflow id of a run; null
            starts a new one.
        hooks: code of your own that is called after each epoch: for each a name, or ``name`` and options.
        expect: claims, from metric to condition: ``{test/accuracy: ">= 0.86"}``; exit code 3 if one is missed.
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
