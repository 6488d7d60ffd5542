"""Deterministic simulation: the real session, lease and election code, on virtual time and an in-memory network."""
