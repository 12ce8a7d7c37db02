"""Generated stubs of `lastunit.stock`, one package a version; see `proto/README.md`."""
