"""What happened over the steps: loss, accuracy and learning rate; norms of weights and gradients."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from odyssey_run.reports import style

Series = Mapping[str, Sequence[tuple[int, float]]]


def learning(series: Series, loss_label: str) -> Figure:
    """Loss and accuracy above the schedule of the learning rate, by optimizer step.

    Args:
        series: points of each metric.
        loss_label: what the loss is, with its unit.
    """
    drawn = style.figure(5.4, left=0.75, hspace=0.3)
    loss, accuracy, rate = drawn.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
    _line(loss, series, "train/loss", "training", style.BLUE, linewidth=1)
    _line(loss, series, "val/loss", "validation", style.VERMILLION, marker="o", markersize=3)
    _line(loss, series, "test/loss", "test", "black", marker="*", markersize=9, linestyle="none")
    loss.set(title="Loss", ylabel=loss_label, ylim=(0, None))
    _line(accuracy, series, "val/accuracy", "validation", style.VERMILLION, 100, marker="o", markersize=3)
    _line(accuracy, series, "test/accuracy", "test", "black", 100, marker="*", markersize=9, linestyle="none")
    for _, value in series.get("test/accuracy", [])[-1:]:
        accuracy.axhline(100 * value, color="black", linewidth=0.6, linestyle=":")
    accuracy.set(title="Accuracy", ylabel="accuracy (%)")
    _line(rate, series, "train/lr", "learning rate", style.GREEN)
    rate.set(title="Learning rate", ylabel="lr", xlabel="optimizer step", ylim=(0, None))
    for axes in (loss, accuracy):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return drawn


def _line(axes, series: Series, name: str, label: str, colour: str, factor: float = 1, **look) -> None:
    if name in series:
        steps, values = zip(*series[name], strict=True)
        axes.plot(steps, [factor * v for v in values], label=label, color=colour, **look)


def _layer(name: str) -> str:
    """The layer that a metric such as ``weight_norm/conv1.weight`` is of."""
    return style.shortened(name.partition("/")[2].removesuffix(".weight"))


def norms(series: Series) -> Figure | None:
    """Euclidean norms per layer at the end of each epoch; None where none were recorded."""
    kinds = [k for k in ("weight_norm", "weight_grad_norm") if any(name.startswith(f"{k}/") for name in series)]
    if not kinds:
        return None
    layers = {_layer(name) for name in series if name.partition("/")[0] in kinds}
    room = 0.5 + style.length(layers, 8)  # of the legend
    drawn = style.figure(2.3 * len(kinds) + 0.3, style.WIDTH - 0.85 + room, left=0.75, right=room, hspace=0.25)
    titles = {"weight_norm": "Norm of the weights", "weight_grad_norm": "Norm of the gradient, of one fixed batch"}
    for axes, kind in zip(drawn.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0], kinds, strict=True):
        names = [name for name in series if name.startswith(f"{kind}/")]
        for i, name in enumerate(names):
            look = {"marker": "osD^v"[i % 5], "markersize": 3}
            _line(axes, series, name, _layer(name), style.COLOURS[i % len(style.COLOURS)], **look)
        axes.set(title=titles[kind], ylabel="L2 norm", yscale="log")
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter()
        )
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1)
    axes.set(xlabel="optimizer step")
    return drawn
