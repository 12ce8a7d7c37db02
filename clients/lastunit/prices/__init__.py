"""What a sale's goods cost: prices, reductions, gifts and coupons, as pure functions of data.

Must not know persons, stock or a clock: time, and which pools the units came from, are arguments.
"""
