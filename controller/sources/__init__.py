"""Image archives of this machine: read, packed and written. Nothing in them is ever unpacked to disk."""
