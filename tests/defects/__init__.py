"""Known defects, planted one at a time, that the simulation must notice."""
