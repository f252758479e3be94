"""Messages to people, by whatever they use."""
