"""The store in a MongoDB database: one database is one queue."""
