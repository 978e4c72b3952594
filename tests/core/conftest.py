"""Puts this folder on the path, so that tests below find `harness`."""
