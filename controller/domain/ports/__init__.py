"""What the engine needs of the outside, as Protocols; the rooms at the edge fulfil them, and `wiring` puts them in.

Every method raises a subclass of RemoteError and nothing else when the other side fails. None of them blocks the event loop.
"""
