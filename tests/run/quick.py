"""Overrides of a run that takes a second."""

QUICK = (
    "data=digits",
    "backend=numpy",
    "tracking=none",
    "plots.enabled=false",
    "trainer.validation_size=100",
    "trainer.max_steps=3",
)
