"""The server is killed and its disk is damaged; what was acknowledged must stand."""
