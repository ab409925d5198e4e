"""The interactive prompt_toolkit session."""
