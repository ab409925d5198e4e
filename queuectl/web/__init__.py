"""The page and the REST API: a separate front end, loaded only by `serve` and `dashboard`."""
