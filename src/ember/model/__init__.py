"""Turn a program into a log density, and find points to start from."""
