"""Docker Engines: the one home of the docker SDK. Its exceptions and its JSON stop here."""
