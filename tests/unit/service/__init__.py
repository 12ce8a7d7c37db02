"""The kit that the services are built from."""
