"""The prompt and the line that is typed at it."""
