"""Collaborative Score Distillation: many images edited or generated as one."""

__version__ = "0.1.0"
