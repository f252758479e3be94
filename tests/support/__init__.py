"""Real servers for tests, the demo and the benchmarks: started on loopback with data of their own, ended by their recorded process id."""
