"""The only place where the parts meet: the rooms at the edge are put into the engine's ports. Each module wires what one kind of command needs."""
