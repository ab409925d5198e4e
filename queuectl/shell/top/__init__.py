"""The full-screen view of the queue."""
