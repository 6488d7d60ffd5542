"""How fast aioelect is, beside its peers and beside what the network allows: ``python -m benchmarks``, see README.md."""
