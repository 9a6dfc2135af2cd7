"""Keep a script warm and run its jobs: the protocol, and the two built-in runtimes."""
