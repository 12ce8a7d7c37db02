"""What strangers can do to the door, measured with the limits off and on; see `__main__`."""
