"""The account service: rules, identifiers, keys and its contract."""
