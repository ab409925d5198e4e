"""Looking at a queue many times a second, without its lock."""
