"""The server's parts by themselves: settings, policy, faults, and the fronts over a fake node."""
