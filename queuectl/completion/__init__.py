"""Completion: what may come next in a line."""
