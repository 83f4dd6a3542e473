"""Hydra's way to :mod:`csd_lab.sweep`; Hydra looks for plugins in this namespace alone."""
