"""One file a revision, each after the one before it; a landed one is never changed."""
