"""Compiled loops: each fills a given stretch of the arena, returns nothing, never raises."""
