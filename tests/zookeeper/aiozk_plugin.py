"""A pytest plugin for aiozk's own test suite: it finds our client under the name of aiozk's."""

from __future__ import annotations

import aiozk

from aioelect import Client

aiozk.ZKClient = Client
