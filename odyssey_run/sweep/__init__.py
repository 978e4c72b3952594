"""``-m``: many runs of one command, planned, in parallel, none twice."""
