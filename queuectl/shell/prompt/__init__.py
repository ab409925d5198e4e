"""The line that is typed at the prompt."""
