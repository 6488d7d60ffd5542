"""The ZooKeeper side: the only package that speaks to aiozk (beside ``aioelect.errors``, which names its exceptions)."""
