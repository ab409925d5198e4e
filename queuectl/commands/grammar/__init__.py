"""From a line of text to a bound command."""
