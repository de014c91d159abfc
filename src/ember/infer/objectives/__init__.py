"""Define what SVI minimises: evidence lower bounds and their relatives."""
