"""What may come next in a line."""
