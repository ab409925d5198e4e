"""Other programs and views that take the terminal."""
