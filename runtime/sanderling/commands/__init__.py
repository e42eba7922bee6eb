"""The runtime's own commands, one file each: thin layers over the library."""
