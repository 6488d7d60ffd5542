"""Contenders as processes, one module for each library; they import that library alone, so that starting them is comparable."""
