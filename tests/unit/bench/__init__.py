"""What the programs of bench/ decide by themselves."""
