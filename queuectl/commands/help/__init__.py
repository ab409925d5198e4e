"""Help pages, the reference and the man page."""
