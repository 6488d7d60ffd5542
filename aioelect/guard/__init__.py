"""Dying fast: a helper process that ends the session of a process that has died. See ``parent`` and docs/guard.md."""
