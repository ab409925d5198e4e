"""A background job queue for shell commands that needs no server."""

__version__ = "0.1.0"
