"""``task=benchmark``: this machine's speed, measured beside its peers."""
