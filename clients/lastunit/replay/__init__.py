"""The incident, replayed: naive designs as a model, our own as real services on a simulated clock.

Owns: the scenario, its results, its table and its page. Must not hold rules of stock, orders or
payments. Next: ``designs.py`` for what is run, ``cli.py`` for the command.
"""
