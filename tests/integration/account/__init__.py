"""The account service as a process."""
