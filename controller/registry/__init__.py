"""The OCI distribution client: the one home of HTTP. Its exceptions and its JSON stop here."""
