"""Methods that sample where this package's own distil: what they are compared with."""
