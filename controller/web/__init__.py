"""What a running controller tells and hears by HTTP."""
