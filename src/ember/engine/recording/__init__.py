"""Record what a running function does to tensors as a program."""
