"""Python's decoders under bytes that nobody meant: see `fuzz/README.md`."""
