"""Command lines beside `csd-lab` itself, one a module."""
