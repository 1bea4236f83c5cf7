"""Evaluation: published protocols, fixed once and reported with everything needed to read the figures."""
