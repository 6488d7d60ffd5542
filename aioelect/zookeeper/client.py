"""``aioelect.connect()`` and the client that it gives: aiozk's client on our session.

Every call and recipe of ``aiozk.ZKClient`` works on it. The calls are spelled out here with their types, so that a type checker
knows them; they raise aiozk's exceptions (``aiozk.exc``), of which ours are subclasses.
"""

from __future__ import annotations

import asyncio
import functools
import math
import ssl as tls
from collections import OrderedDict
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import aiozk
from aiozk import exc, protocol
from aiozk.features import Features
from aiozk.recipes.proxy import RecipeProxy

from aioelect.cleanup import finish
from aioelect.errors import ConnectionLoss, Executed
from aioelect.events import OnEvent
from aioelect.model import Timing
from aioelect.naming import MAX_ENCODED, check_path
from aioelect.ports import World
from aioelect.zookeeper import wire
from aioelect.zookeeper.access import Access, Acl, make_acl
from aioelect.zookeeper.hosts import Hosts
from aioelect.zookeeper.janitor import Janitor
from aioelect.zookeeper.renewals import Renewals
from aioelect.zookeeper.security import Auth, Tls
from aioelect.zookeeper.security.auth import check_auth
from aioelect.zookeeper.security.tls import FilePath, KeyPassword
from aioelect.zookeeper.session import Session

if TYPE_CHECKING:
    from aioelect.guard.parent import Guard, Guarding

    # aiozk has no types: a checker that saw its class would take any misspelt call for granted.
    _ZKClient = object
else:
    _ZKClient = aiozk.ZKClient

__all__ = ["Client", "Stat", "check_data", "connect"]

STATS = 1_000
"""Znodes whose stat is remembered; aiozk remembers all, for ever."""


class Stat(Protocol):
    """A znode's stat as aiozk gives it; times in milliseconds since the epoch."""

    created_zxid: int
    last_modified_zxid: int
    created: int
    modified: int
    version: int
    child_version: int
    acl_version: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    last_modified_children: int


class Dependent(Protocol):
    """Somebody who acts in the name of a client's session."""

    async def stand_down(self) -> bool:
        """Stops acting; returns, within a bounded time, whether it has."""


class Client(_ZKClient):
    """One session with one ensemble, shared by any number of elections.

    It holds no cancel scope: keep it open across tasks as you like, within one event loop. Enter it, or await it, to start it:
    ``connect()`` does so.
    """

    def __init__(
        self,
        hosts: str,
        chroot: str | None = None,
        session_timeout: float = 10.0,
        default_acl: Sequence[Any] | None = None,
        allow_read_only: bool = False,
        *,
        timeout: float | None = None,
        request_timeout: float | None = None,
        renew_every: float | None = None,
        margin: float | None = None,
        tick_time: float | None = None,
        ssl: tls.SSLContext | bool | None = None,
        ssl_ca: FilePath | None = None,
        ssl_cert: FilePath | None = None,
        ssl_key: FilePath | None = None,
        ssl_key_password: KeyPassword | None = None,
        server_hostname: str | None = None,
        auth: Auth | Sequence[Auth] = (),
        acl: Acl = "open",
        guard: Guarding = False,
        on_event: OnEvent | None = None,
        world: World | None = None,
    ) -> None:
        """As :func:`connect`; ``chroot`` and ``default_acl`` as in aiozk."""
        parsed = Hosts.parse(hosts)
        below = check_path("/" + chroot.strip("/"), "chroot") if chroot and chroot.strip("/") else ""
        self.chroot: str | None = (parsed.chroot + below) or None
        _check_seconds("session_timeout", session_timeout)
        for name, value in (("timeout", timeout), ("request_timeout", request_timeout)):
            if value is not None:
                _check_seconds(name, value)
        self._timeout = timeout
        credentials = check_auth(auth)
        encryption = Tls.parse(ssl, ssl_ca, ssl_cert, ssl_key, ssl_key_password, server_hostname)
        self.session = Session(
            parsed,
            timeout=session_timeout,
            request_timeout=request_timeout,
            allow_read_only=allow_read_only,
            timing=functools.partial(Timing.derive, tick_time=tick_time, renew_every=renew_every, margin=margin),
            auth=credentials,
            tls=encryption,
            on_event=on_event,
            world=world,
        )
        self._authenticates = bool(auth) or ssl_cert is not None or isinstance(ssl, tls.SSLContext)
        self.default_acl = list(default_acl) if default_acl else make_acl(acl, authenticated=self._authenticates)
        self.stat_cache: OrderedDict[str, Stat] = OrderedDict()
        self.janitor = Janitor(self.session)
        self.renewals = Renewals(self.session)
        self.guard = None if guard is False else self._make_guard(guard, credentials, encryption)
        self.dependents: dict[Dependent, None] = {}
        self.closing = False

    def __repr__(self) -> str:
        return f"<Client of {self.session!r}>"

    def _make_guard(self, guarding: Guarding, credentials: Sequence[Auth], encryption: Tls | None) -> Guard | None:
        """What it takes is imported only where it is wanted."""
        from aioelect.guard.parent import Guard, check_guarding
        from aioelect.zookeeper.will import Testator

        check_guarding(guarding)
        guard = Guard(guarding) if guarding else None
        if guard is not None:
            self._testator = Testator(self.session, guard, credentials, encryption)
        return guard

    @functools.cached_property
    def recipes(self) -> Any:
        """aiozk's recipes; they are imported at the first use."""
        return RecipeProxy(self)

    # Life

    async def start(self) -> None:
        """Connects; a chroot is made where it is missing. Raises as :func:`connect` when awaited."""
        self.closing = False
        if self.guard is not None and not self.session.started:
            self.guard.start()
        try:
            await self.session.start(self._timeout)
        except BaseException:
            if self.guard is not None and not self.session.started:
                is_owed = self.guard.deadline < math.inf  # by a body that runs on since the session before
                await finish(self.guard.close(abandon=is_owed), bound=None)
            raise
        try:
            if self.chroot and not await self.exists("/"):
                await self.ensure_path("/")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stands all leaders down, ends the session if a server can be reached within a second, and returns in any case.

        A body that does not end within its drain time keeps the session until it expires: its znode goes no sooner.
        A cancellation is raised when all that is done.
        """
        self.session.check_loop()
        await finish(self._close(), bound=None)

    async def _close(self) -> None:
        stood_down = False
        self.closing = True
        try:
            standing = [dependent.stand_down() for dependent in list(self.dependents)]
            stood_down = all(await asyncio.gather(*standing))
        finally:
            try:
                await self.session.close(abandon=not stood_down)
            finally:
                if self.guard is not None:
                    await self.guard.close(abandon=not stood_down)
            await self.janitor.wait_idle()

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self.start().__await__()
        return self

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def make_access(self, acl: Acl | None = None) -> Access:
        """The ACL of one election's znodes; ``None`` for what :func:`connect` was given. Errors as :func:`make_acl`."""
        entries = self.default_acl if acl is None else make_acl(acl, authenticated=self._authenticates)
        return Access(self.session, entries)

    @property
    def features(self) -> Features:
        """aiozk's view of what the server can do."""
        return Features(self.session.conn.version_info if self.session.conn else (0, 0, 0))

    # Paths

    def normalize_path(self, path: str) -> str:
        """The path on the server of a path below the chroot."""
        return "/" + "/".join(part for part in "/".join((self.chroot or "", path)).split("/") if part)

    def denormalize_path(self, path: str) -> str:
        """The path below the chroot of a path on the server."""
        if self.chroot and (path == self.chroot or path.startswith(self.chroot + "/")):
            return path[len(self.chroot) :] or "/"
        return path

    # Requests

    async def send(self, request: Any) -> Any:
        """Sends any ``aiozk.protocol`` request and gives its response."""
        response = await self.session.send(request)
        path, stat = getattr(request, "path", None), getattr(response, "stat", None)
        if path and stat and getattr(response, "path", path) == path:  # as in aiozk, not of a sequential create
            self._remember(self.denormalize_path(path), stat)
        return response

    def _remember(self, path: str, stat: Stat) -> None:
        self.stat_cache[path] = stat
        self.stat_cache.move_to_end(path)
        if len(self.stat_cache) > STATS:
            self.stat_cache.popitem(last=False)

    def _version(self, path: str, force: bool, field: str = "version") -> int:
        stat = None if force else self.stat_cache.get(self.denormalize_path(self.normalize_path(path)))
        return -1 if stat is None else int(getattr(stat, field))

    def wait_for_events(self, event_types: Sequence[int], path: str) -> asyncio.Future[None]:
        """A future that is done at the first of these events; set the watch after calling this, with ``watch=True``."""
        self.session.check_loop()
        path = self._path(path)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def happened(_: str) -> None:
            if not future.done():
                future.set_result(None)
            forget(future)

        def forget(_: asyncio.Future[None]) -> None:
            for event_type in event_types:
                self.session.remove_watch_callback(event_type, path, happened)

        for event_type in event_types:
            self.session.add_watch_callback(event_type, path, happened)
        future.add_done_callback(forget)
        return future

    async def exists(self, path: str, watch: bool = False) -> bool:
        """Whether there is a znode at ``path``."""
        try:
            await self.send(protocol.ExistsRequest(path=self._path(path), watch=watch))
        except exc.NoNode:
            return False
        return True

    async def create(
        self,
        path: str,
        data: bytes | str | None = None,
        acl: Sequence[Any] | None = None,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
    ) -> str:
        """Makes a znode and gives its path; a ``container`` goes by itself some time after its last child has gone.

        Never sends twice: ``ConnectionLoss`` with ``executed`` unknown says that the znode may be there. When the call is
        cancelled, a znode that came to be all the same is deleted again, unless the answer that would name it is lost, too.
        """
        if container and (ephemeral or sequential):
            raise ValueError("a container can be neither ephemeral nor sequential: choose one")
        kind = wire.CreateContainerRequest if container else protocol.Create2Request
        request = kind(path=self._path(path), data=check_data(data), acl=acl or self.default_acl)
        request.set_flags(ephemeral, sequential, container)
        sending = asyncio.ensure_future(self.send(request))
        try:
            response = await asyncio.shield(sending)
        except asyncio.CancelledError:
            await self._undo(sending)
            raise
        return self.denormalize_path(response.path)

    async def _undo(self, sending: asyncio.Future[Any]) -> None:
        """A create was cancelled: sees what became of it, and takes it back. The waiting for that is bounded."""

        async def undo() -> None:
            try:
                response = await sending
            except (exc.ZKError, asyncio.CancelledError):
                return
            if (session_id := self.session.session_id) is not None:
                await self.janitor.delete(response.path, session_id)

        if not self.session.connected:
            sending.cancel()
        await finish(asyncio.shield(self.janitor.spawn(undo())))

    async def ensure_path(self, path: str, acl: Sequence[Any] | None = None) -> None:
        """Makes what is missing of ``path``, chroot included, as plain znodes; what is there is not touched.

        (aiozk asks for containers here, in a way that gives plain znodes.)
        """
        at = ""
        for part in self._path(path).strip("/").split("/"):
            at = f"{at}/{part}"
            await self._ensure(protocol.Create2Request(path=at, acl=acl or self.default_acl, flags=0))

    async def ensure_container(self, path: str, acl: Sequence[Any] | None = None) -> None:
        """Makes ``path``, which was just found missing, as a container, and its parents as plain znodes where they are, too."""
        request = wire.CreateContainerRequest(path=self._path(path), acl=acl or self.default_acl)
        request.set_flags(container=True)
        try:
            await self._make(request)
        except exc.NoNode:
            await self.ensure_path(self.denormalize_path(request.path.rpartition("/")[0] or "/"), acl)
            await self._make(request)

    async def _ensure(self, create: Any) -> None:
        """Asks first: who may not make it needs no permission to see that it is there."""
        try:
            await self.send(protocol.ExistsRequest(path=create.path, watch=False))
        except exc.NoNode:
            await self._make(create)

    async def _make(self, create: Any) -> None:
        """Makes a znode, unless somebody has."""
        while True:
            try:
                await self.send(create)
                return
            except exc.NodeExists:
                return
            except ConnectionLoss as e:
                if e.executed is not Executed.UNKNOWN:
                    raise

    async def delete(self, path: str, force: bool = False) -> None:
        """Deletes a znode; unless ``force``, only in the version that this client saw last."""
        version = self._version(path, force)
        await self.send(protocol.DeleteRequest(path=self._path(path), version=version))
        self.stat_cache.pop(self.denormalize_path(self.normalize_path(path)), None)

    async def deleteall(self, path: str) -> None:
        """Deletes a znode with all below it."""
        for child in await self.get_children(path):
            await self.deleteall(f"{path}/{child}")
        await self.delete(path, force=True)

    async def get(self, path: str, watch: bool = False) -> tuple[bytes | None, Stat]:
        """Data and stat of a znode."""
        response = await self.send(protocol.GetDataRequest(path=self._path(path), watch=watch))
        return response.data, response.stat

    async def get_data(self, path: str, watch: bool = False) -> bytes | None:
        """Data of a znode."""
        data, _ = await self.get(path, watch)
        return data

    async def set(self, path: str, data: bytes | str | None, version: int) -> Stat:
        """Writes a znode if it has this version (-1: any); the new stat."""
        request = protocol.SetDataRequest(path=self._path(path), data=check_data(data), version=version)
        response = await self.send(request)
        stat: Stat = response.stat
        return stat

    async def set_data(self, path: str, data: bytes | str | None, force: bool = False) -> None:
        """Writes a znode; unless ``force``, only in the version that this client saw last."""
        await self.set(path, data, self._version(path, force))

    async def get_children(self, path: str, watch: bool = False) -> list[str]:
        """Names of the children, in no order."""
        response = await self.send(protocol.GetChildren2Request(path=self._path(path), watch=watch))
        children: list[str] = response.children
        return children

    async def get_acl(self, path: str) -> list[Any]:
        """The ``aiozk.ACL`` of a znode."""
        response = await self.send(protocol.GetACLRequest(path=self._path(path)))
        acl: list[Any] = response.acl
        return acl

    async def set_acl(self, path: str, acl: Sequence[Any], force: bool = False) -> None:
        """Replaces the ACL of a znode; unless ``force``, only in the ACL version that this client saw last."""
        version = self._version(path, force, "acl_version")
        await self.send(protocol.SetACLRequest(path=self._path(path), acl=list(acl), version=version))

    def begin_transaction(self) -> Any:
        """aiozk's transaction: all of its writes happen, or none."""
        return aiozk.client.Transaction(self)

    def _path(self, path: str) -> str:
        return check_path(self.normalize_path(path))


class _Connecting:
    """A client to come: await it, or enter it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __await__(self) -> Generator[Any, None, Client]:
        return self._client.__await__()

    async def __aenter__(self) -> Client:
        return await self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()


def connect(
    hosts: str,
    *,
    session_timeout: float = 10.0,
    timeout: float | None = 30.0,
    request_timeout: float | None = None,
    renew_every: float | None = None,
    margin: float | None = None,
    tick_time: float | None = None,
    ssl: tls.SSLContext | bool | None = None,
    ssl_ca: FilePath | None = None,
    ssl_cert: FilePath | None = None,
    ssl_key: FilePath | None = None,
    ssl_key_password: KeyPassword | None = None,
    server_hostname: str | None = None,
    auth: Auth | Sequence[Auth] = (),
    acl: Acl = "open",
    guard: Guarding = False,
    on_event: OnEvent | None = None,
    world: World | None = None,
) -> _Connecting:
    """A client of the ensemble ``hosts``: ``client = await connect(...)``, or ``async with connect(...) as client``.

    ``hosts``            ``"zk1:2181,zk2:2181,[::1]:2181/chroot"``; names are resolved afresh at every connect.
    ``session_timeout``  seconds of silence after which ZooKeeper gives our znodes up; the server may grant another.
    ``timeout``          seconds until the first session, None for ever.
    ``request_timeout``  seconds that a request waits for its answer, reconnects included; the session timeout by default.
    ``renew_every``, ``margin``, ``tick_time``  see :class:`aioelect.Timing`.
    ``ssl``              True for TLS, or an ``ssl.SSLContext`` of your own; see docs/security.md.
    ``ssl_ca``           a PEM file: the CAs to trust, the system's by default.
    ``ssl_cert``, ``ssl_key``  PEM files: who we are, where servers ask; the key may stand in the certificate's file.
    ``ssl_key_password`` a function that gives the password of an encrypted key.
    ``server_hostname``  what the servers' certificates must be for; the host as it stands in ``hosts`` by default.
    ``auth``             credentials, or several: ``aioelect.Digest``, ``aioelect.SaslDigestMd5``, ``aioelect.Gssapi``.
    ``acl``              of znodes that this client makes, elections' included. ``"open"``: anybody may do anything;
                         ``"creator"``: only who has the credentials of ``auth``; ``"creator+read"``: others may read; or a list
                         of ``aiozk.ACL``.
    ``guard``            True: a helper process ends the session as soon as this process is dead, so that the next contender
                         need not wait for the session timeout. ``"strict"``: it also kills this process when a leader's body
                         still runs at its deadline. See docs/guard.md.
    ``on_event``         called with each :class:`aioelect.events.ClientEvent`.

    Raises ``ValueError`` at the call for what can't work, and when awaited ``ConnectTimeout``, ``AuthenticationFailed``, and
    ``TlsError`` where no server can be trusted, or trusts us.
    """
    return _Connecting(
        Client(
            hosts,
            session_timeout=session_timeout,
            timeout=timeout,
            request_timeout=request_timeout,
            renew_every=renew_every,
            margin=margin,
            tick_time=tick_time,
            ssl=ssl,
            ssl_ca=ssl_ca,
            ssl_cert=ssl_cert,
            ssl_key=ssl_key,
            ssl_key_password=ssl_key_password,
            server_hostname=server_hostname,
            auth=auth,
            acl=acl,
            guard=guard,
            on_event=on_event,
            world=world,
        )
    )


def _check_seconds(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (math.isfinite(value) and 0 < value <= 2_000_000):
        raise ValueError(f"{name} must be a positive number of seconds, not {value!r}")


def check_data(data: bytes | str | None) -> bytes | None:
    """What goes into a znode. Raises ``TypeError``, and ``ValueError`` for what is over ZooKeeper's limit."""
    if data is None:
        return None
    raw = data.encode() if isinstance(data, str) else data
    if not isinstance(raw, (bytes, bytearray, memoryview)):
        raise TypeError(f"data must be bytes, str or None, not {type(data).__name__}")
    if len(raw) > MAX_ENCODED:
        raise ValueError(f"data of {len(raw)} bytes is too large: ZooKeeper's 1 MiB limit leaves {MAX_ENCODED}")
    return bytes(raw)
