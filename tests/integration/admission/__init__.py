"""`lastunit admission` against a real server."""
