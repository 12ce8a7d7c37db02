"""A payment provider for rehearsals, with every fault a real one has had.

Owns pretended money. Must not be reachable by real buyers, and must not import the payment
service's core: it stands on the other side of the wire.
Next: `core` (the provider), `knobs` (its faults), `app` (its HTTP form).
"""
