"""The main job as a reader runs it."""
