"""The page and the REST API: a front end of its own, loaded by `serve` and `dashboard` only."""
