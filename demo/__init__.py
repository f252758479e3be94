"""`make demo`: the whole way on this machine, on servers of its own, in .wharf/demo; ends by itself and leaves nothing running."""
