"""The store in a data folder: JSON files, a journal, a lock."""
