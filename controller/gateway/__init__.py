"""The one address: push to it, pull through it (the OCI distribution API in front of a plain registry)."""
