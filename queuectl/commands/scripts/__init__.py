"""Scripts of statements, and how far one got."""
