"""The control protocol's generated messages and stubs (a door)."""
