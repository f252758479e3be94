"""Pure values and decisions: no I/O, no clock, no randomness. Every other room imports this one; it imports none."""
