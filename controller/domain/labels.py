"""The labels that we give to images."""

CONTEXT_HASH = "wharfinger.dev/context-hash"
"""What the Dockerfile folder was that an image was built from."""
