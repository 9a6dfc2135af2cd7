"""The database behind Hotpath: the only SQL, the connections, and the embedded server."""
