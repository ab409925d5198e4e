"""Other programs and views that take over the terminal."""
