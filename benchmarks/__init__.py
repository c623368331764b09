"""Side-by-side measurements, started by `make benchmark`; never part of the tests."""
