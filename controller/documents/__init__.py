"""Desired-state files: the one home of YAML. Text in, checked documents with places out."""
