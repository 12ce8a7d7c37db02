"""The door under attack and under wrong keys: who comes in, and what a stranger may cost."""
