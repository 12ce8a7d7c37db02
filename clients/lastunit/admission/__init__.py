"""Generated stubs of `lastunit.admission`, one package a version; see `proto/README.md`."""
