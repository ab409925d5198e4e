"""Scripts of statements, and their progress."""
