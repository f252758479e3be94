"""The commands: `wharf NAME` is the function NAME of the module NAME here, loaded only when it is called or described."""
