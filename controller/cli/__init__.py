"""The command `wharf`: asks the engine and shows the answer; decides nothing."""
