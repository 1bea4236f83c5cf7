"""The generator of the built-in head: readable source of the shipped data file. Needs only NumPy and SciPy."""
