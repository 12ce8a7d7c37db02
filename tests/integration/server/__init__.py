"""The server as a process: start, stop, command line, metrics."""
