"""Sample from densities over flat vectors, as pure functions on tensors that know no models."""
