"""Say torch's random operations in terms of keys, so that programs may hold them."""
