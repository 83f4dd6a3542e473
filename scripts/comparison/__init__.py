"""Paired comparisons of methods on held-out scenes, kept in a file that is gone on with."""
