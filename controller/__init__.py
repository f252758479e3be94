"""Wharfinger: one registry is the store of every image, and a YAML file says what must be true."""

__version__ = "0.1.0"
