# SPDX-License-Identifier: Apache-2.0

"""Runs a filter in front of Cinder's router, and counts its errors.

Each request is sent to the bare router first, and then, under one or more
regimes, to the filter in front of the same router:

``deny``
    Every rule is "never". A request with a guarded effect has bypassed the
    filter.
``default``
    The default rules, an ordinary caller, and a Nova whose responses are
    random, or missing. The :mod:`oracle` must permit every
    effect. If it permits all effects on the bare router, none may be missing.
``unseen``
    The default rules, and a caller that auth_token has not validated. There
    may be no guarded effect, whatever the headers claim.
``service``, ``open``, ``shadow``
    The default rules and a service, rules that are "always", or rules that
    are "never" in shadow mode. The effects and the response are those of the
    bare router.

A filter may read from Cinder by GET. Any other request of its own is an error.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
import functools
import json
import logging
import random
import re
import tempfile
import types
from typing import Any
from typing import TYPE_CHECKING

from keystoneauth1 import access
from oslo_config import cfg
from oslo_utils import uuidutils
import webob

from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import middleware as attachguard_filter
from attachguard.guard import request as guard_request
from attachguard.nova import client as nova_client
from tests.differential import forms
from tests.differential import generator
from tests.differential import oracle
from tests.differential import router

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment


class Wrong(enum.Enum):
    """The errors of a filter."""

    REACHED = 'guarded operations performed that must be refused'
    RAISED = 'exceptions raised by the filter'
    ALTERED = 'requests or responses altered'
    REFUSED = 'refusals of requests that must be forwarded'


class Regime(enum.Enum):
    """The rules in force, and the caller."""

    DENY = 'deny'
    DEFAULT = 'default'
    UNSEEN = 'unseen'
    SERVICE = 'service'
    OPEN = 'open'
    SHADOW = 'shadow'


@dataclasses.dataclass(frozen=True)
class Finding:
    """One error of the filter."""

    index: int
    regime: Regime
    wrong: Wrong
    detail: str


@dataclasses.dataclass
class Tally:
    """The counts of a run.

    :ivar requests: how many there were
    :ivar reaching: how many had a guarded effect on the bare router
    :ivar stopped: how many of these the filter stopped, under any regime
    :ivar operations: how often the bare router performed which operation
    """

    requests: int = 0
    reaching: int = 0
    stopped: int = 0
    wrong: collections.Counter[Wrong] = dataclasses.field(
        default_factory=collections.Counter
    )
    operations: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of another process."""
        self.requests += other.requests
        self.reaching += other.reaching
        self.stopped += other.stopped
        self.wrong += other.wrong
        self.operations += other.operations
        self.findings += other.findings


@dataclasses.dataclass
class Outcome:
    """The outcome of a request."""

    effects: list[router.Effect]
    raised: Exception | None = None
    status: str = ''
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    body: bytes = b''

    @property
    def response(self) -> tuple[Any, ...]:
        """What the caller receives."""
        if self.raised is not None:
            return (type(self.raised),)
        return self.status, sorted(self.headers), self.body

    @property
    def code(self) -> int:
        """The HTTP status, 500 for an exception."""
        return 500 if self.raised is not None else int(self.status[:3])


# Whatever a filter that reads the body leaves behind, a body is a body.
_FRAMING = re.compile(r'CONTENT_LENGTH|wsgi\.input|wsgi\.input_terminated')
_LEFT_BY_WEBOB = re.compile(r'webob\.')


class Witness:
    """Stands between the filter and the router, and checks what arrives."""

    def __init__(self, application: router.RecordingRouter) -> None:
        self._application = application
        self._sent: WSGIEnvironment = {}
        self._before: WSGIEnvironment = {}
        self._body = b''
        self.arrivals = 0
        self.altered: list[str] = []
        self.own_calls: list[str] = []

    def expect(self, environ: WSGIEnvironment, body: bytes) -> None:
        """Prepare for a request.

        :param body: what Cinder would read as its body
        """
        self._sent = environ
        self._before = dict(environ)
        self._body = body
        self.arrivals = 0
        self.altered = []
        self.own_calls = []

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Compare the request with what was sent, and forward it."""
        if environ is self._sent:
            self.arrivals += 1
            self.altered += self._differences(environ)
            return self._application(environ, start_response)
        # A filter may read from Cinder, and must do nothing else.
        method, path = environ['REQUEST_METHOD'], environ['PATH_INFO']
        if method != 'GET' or '_method' in environ.get('QUERY_STRING', ''):
            self.own_calls.append(f'{method} {path}')
        return self._application(environ, start_response)

    def _differences(self, environ: WSGIEnvironment) -> Iterator[str]:
        before = self._before
        for name in before.keys() | environ.keys():
            if _FRAMING.fullmatch(name) or _LEFT_BY_WEBOB.match(name):
                continue
            if before.get(name, self) != environ.get(name, self):
                yield f'{name}: {before.get(name)!r}, {environ.get(name)!r}'
        source = environ['wsgi.input']
        if source is before['wsgi.input'] and not getattr(
            source, 'touched', False
        ):
            same = all(
                before.get(name) == environ.get(name)
                for name in ('CONTENT_LENGTH', 'wsgi.input_terminated')
            )
            if not same:
                yield 'the framing of an untouched body'
            return
        body = webob.Request(dict(environ)).body
        source.seek(0)
        if body != self._body:
            yield f'the body: {self._body[:80]!r}, {body[:80]!r}'


class Nova:
    """Nova for a guard: its responses are random, and always the same."""

    visibility = nova_client.Visibility.UNCHECKED
    count = 0
    seconds = 0.0
    deadline = float('inf')

    def __init__(self) -> None:
        self.seed = ''

    def queries(self, auth: Any, project_id: Any) -> Nova:
        """The queries for one request."""
        return self

    def start(self, server_id: str) -> None:
        """As ``attachguard.nova.client.Queries.start``."""

    def server(self, server_id: str) -> nova_client.Server | None:
        """As ``attachguard.nova.client.Queries.server``."""
        rng = self._random(server_id)
        kind = rng.random()
        if kind < 0.2:
            return None
        volumes = [row.id for row in router.VOLUMES if rng.random() < 0.5]
        return nova_client.Server(server_id, kind > 0.8, frozenset(volumes))

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """As ``attachguard.nova.client.Queries.attachment_id``."""
        ids = [row.id for row in router.ATTACHMENTS if row.volume == volume_id]
        return self._random(server_id, volume_id).choice(
            [None, None, 'no-such-attachment', *ids]
        )

    def sees_every_project(self) -> bool:
        """As ``attachguard.nova.client.Queries.sees_every_project``."""
        return self._random().random() < 0.7

    def _random(self, *about: str) -> random.Random:
        """Random numbers about something, for the current request.

        :raises attachguard.nova.client.Unknown: sometimes
        """
        for id_ in about:
            assert _CANONICAL.fullmatch(id_), f'{id_!r} in the URL of Nova'
        rng = random.Random(':'.join((self.seed, *about)))
        if rng.random() < 0.1:
            raise nova_client.Unknown('random')
        return rng


_CANONICAL = re.compile(
    r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
)


@functools.cache
def _token(roles: tuple[str, ...], user: str) -> access.AccessInfo:
    # Of the Identity API's v3 token, what a filter can look at.
    default = {'id': 'default', 'name': 'Default'}
    token = {
        'methods': ['password'],
        'user': {'id': user, 'name': user, 'domain': default},
        'project': {
            'id': router.PROJECT,
            'name': router.PROJECT,
            'domain': default,
        },
        'roles': [{'id': role, 'name': role} for role in roles],
        'issued_at': '2026-01-01T00:00:00.000000Z',
        'expires_at': '2126-01-01T00:00:00.000000Z',
    }
    return access.create(body={'token': token}, auth_token='token')


_SERVICE_USER = '6e6f7661000000000000000000000001'


def identity(rng: random.Random, admin: bool, service: bool) -> dict[str, Any]:
    """What auth_token and keystonecontext leave in the environ of a caller.

    :param admin: with an administrator's token
    :param service: a service, by its service token or its own role; else a
        caller who may look like one
    """
    roles = router.ADMIN_ROLES if admin else router.MEMBER_ROLES
    user = _token(roles, router.USER)
    trusted = _token(('service',), _SERVICE_USER)
    status: str | None = None
    if service:
        if rng.random() < 0.5:
            token, status = trusted, 'Confirmed'
        else:
            user, token = _token((*roles, 'service'), router.USER), None
    else:
        token, status = rng.choice(
            (
                (None, None),
                # A service token that has expired, or is none.
                (trusted, 'Invalid'),
                (trusted, None),
                # A user's own token sent twice.
                (user, 'Confirmed'),
            )
        )
    environ = {
        'cinder.context': router.request_context(admin),
        'keystone.token_auth': types.SimpleNamespace(user=user, service=token),
        'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    }
    if status is not None:
        environ['HTTP_X_SERVICE_IDENTITY_STATUS'] = status
    if token is None:
        # As auth_token writes what a token does not have.
        environ['HTTP_X_SERVICE_ROLES'] = None
        environ['HTTP_X_SERVICE_USER_ID'] = None
    return environ


def forged(rng: random.Random, admin: bool) -> dict[str, Any]:
    """What a client says of itself where auth_token does not stand before.

    :param admin: whether the rest of the pipeline takes it for one
    """
    headers = {
        'HTTP_X_IDENTITY_STATUS': 'Confirmed',
        'HTTP_X_SERVICE_IDENTITY_STATUS': 'Confirmed',
        'HTTP_X_ROLES': 'admin,service',
        'HTTP_X_SERVICE_ROLES': 'service',
        'HTTP_X_USER_ID': router.USER,
        'HTTP_X_SERVICE_TOKEN': 'token',
    }
    names = rng.sample(sorted(headers), rng.randrange(len(headers) + 1))
    return {
        'cinder.context': router.request_context(admin),
        **{name: headers[name] for name in names},
    }


Guards = dict[Regime, Callable[[Witness, Nova], 'WSGIApplication']]


_CLOSED = (Regime.DENY, Regime.UNSEEN)


def attachguards() -> Guards:
    """The filter under test, under every regime."""
    return {
        Regime.DENY: lambda app, nova: _guard(app, nova, '!'),
        Regime.DEFAULT: lambda app, nova: _guard(app, nova, None),
        Regime.UNSEEN: lambda app, nova: _guard(app, nova, None),
        Regime.SERVICE: lambda app, nova: _guard(app, nova, None),
        Regime.OPEN: lambda app, nova: _guard(app, nova, '@'),
        Regime.SHADOW: lambda app, nova: _guard(app, nova, '!', False),
    }


@functools.cache
def _rules_directory() -> tempfile.TemporaryDirectory[str]:
    # Removed when the process ends: a filter looks at its file again.
    return tempfile.TemporaryDirectory()


@functools.cache
def _rules_file(text: str) -> str:
    handle, path = tempfile.mkstemp('.yaml', dir=_rules_directory().name)
    with open(handle, 'w', encoding='utf-8') as file:
        file.write(text)
    return path


def _guard(
    application: Witness, nova: Nova, check: str | None, enforce: bool = True
) -> attachguard_filter.AttachGuard:
    logging.getLogger('attachguard').setLevel(logging.CRITICAL)
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    rules = {}
    if check is not None:
        rules = {rule.name: check for rule in default_rules.list_rules()}
    path = _rules_file(json.dumps(rules))
    opts.configure(conf, {'policy_file': path, 'enforce': str(enforce)})
    guard = attachguard_filter.AttachGuard(application, conf)
    guard.nova = nova
    return guard


class Harness:
    """Runs requests, one after the other.

    :param guards: what to put before the router under which regime
    :param seed: of the requests, the callers and Nova's answers
    :param recording: Cinder's router
    """

    def __init__(
        self, guards: Guards, seed: int, recording: router.RecordingRouter
    ) -> None:
        self.tally = Tally()
        self._seed = seed
        self._nova = Nova()
        self._router = recording
        self._witness = Witness(self._router)
        self._guards = {
            regime: make(self._witness, self._nova)
            for regime, make in guards.items()
        }

    def run(self, index: int) -> None:
        """Send the request of an index."""
        rng = random.Random(f'{self._seed}:{index}:caller')
        request = generator.request(self._seed, index)
        admin = rng.random() < 0.25
        if index < len(forms.FORMS):
            admin = forms.FORMS[index].admin
        everything = index < len(forms.FORMS)
        self.check(request, rng, admin, index, everything)

    def check(
        self,
        request: forms.Request,
        rng: random.Random,
        admin: bool,
        index: int,
        everything: bool = True,
    ) -> Outcome:
        """Send one request, and count what goes wrong.

        :param everything: under all regimes, and not only under some
        :returns: what becomes of it on the bare router
        """
        self._nova.seed = f'{self._seed}:{index}'
        bare = self._send(self._router, request, identity(rng, admin, False))
        guarded = [effect for effect in bare.effects if effect.guarded]
        self.tally.requests += 1
        self.tally.reaching += bool(guarded)
        self.tally.operations.update({item.operation for item in guarded})
        regimes = list(self._guards)
        if not everything:
            regimes = rng.sample(regimes, min(1 + bool(guarded), len(regimes)))
        expected = self._body_of(request)
        for regime in regimes:
            service = regime is Regime.SERVICE
            if regime in (Regime.DENY, Regime.OPEN, Regime.SHADOW):
                service = rng.random() < 0.5
            caller = identity(rng, admin, service)
            if regime is Regime.UNSEEN:
                caller = forged(rng, admin)
            environ = {**request.environ(), **caller}
            self._witness.expect(environ, expected)
            self._prime(request)
            outcome = self._call(self._guards[regime], environ)
            for wrong, detail in self._judge(
                regime, request, bare, outcome, admin
            ):
                self.tally.wrong[wrong] += 1
                # The first of many will do.
                if self.tally.wrong[wrong] <= 20:
                    self.tally.findings.append(
                        Finding(index, regime, wrong, detail)
                    )
        return bare

    def _judge(
        self,
        regime: Regime,
        request: forms.Request,
        bare: Outcome,
        outcome: Outcome,
        admin: bool,
    ) -> Iterator[tuple[Wrong, str]]:
        seen = self._witness
        passed = seen.arrivals > 0
        done = [effect for effect in outcome.effects if effect.guarded]
        meant = [effect for effect in bare.effects if effect.guarded]
        if meant and not done:
            self.tally.stopped += 1
        if seen.own_calls:
            yield Wrong.REACHED, f'by the filter itself: {seen.own_calls}'
        if regime in _CLOSED:
            if done:
                yield Wrong.REACHED, repr(done)
        elif regime is Regime.DEFAULT:
            for effect in done:
                if not self._permitted(effect, admin):
                    yield Wrong.REACHED, repr(effect)
        if outcome.raised is not None and not (
            bare.raised is not None
            and type(outcome.raised) is type(bare.raised)
        ):
            yield Wrong.RAISED, repr(outcome.raised)[:300]
        if not passed and outcome.raised is None:
            if outcome.code >= 500 and outcome.code != 503:
                yield Wrong.RAISED, f'{outcome.status} {outcome.body[:200]!r}'
        if seen.arrivals > 1:
            yield Wrong.ALTERED, f'sent {seen.arrivals} times'
        for difference in seen.altered:
            yield Wrong.ALTERED, difference
        if passed:
            if outcome.response != bare.response:
                yield (
                    Wrong.ALTERED,
                    f'the response: {bare.response!r:.200}, '
                    f'{outcome.response!r:.200}',
                )
            if outcome.effects != bare.effects:
                yield (
                    Wrong.ALTERED,
                    f'the effects: {bare.effects}, {outcome.effects}',
                )
            return
        if regime in _CLOSED:
            # A request without a guarded effect may be forwarded.
            may = not meant and bool(bare.effects)
        elif _is_nonsense(request):
            may = False
        elif regime is Regime.DEFAULT:
            may = not _only_collates(request) and all(
                self._permitted(effect, admin) for effect in meant
            )
        else:
            may = True
        if may and (meant or bare.code < 400):
            yield (
                Wrong.REFUSED,
                f'{outcome.status} {outcome.body[:200]!r} for {bare.status} '
                f'{meant}',
            )

    def _permitted(self, effect: router.Effect, admin: bool) -> bool:
        try:
            return oracle.permitted(effect, self._nova, admin)
        except nova_client.Unknown:
            return False

    def _send(
        self,
        application: WSGIApplication,
        request: forms.Request,
        caller: dict[str, Any],
    ) -> Outcome:
        self._prime(request)
        return self._call(application, {**request.environ(), **caller})

    def _call(
        self, application: WSGIApplication, environ: WSGIEnvironment
    ) -> Outcome:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: Any = None,
        ) -> Any:
            started.append((status, headers))

        try:
            response = application(environ, start_response)
            body = b''.join(response)
        except Exception as exc:
            return Outcome(self._router.take(), exc)
        ((status, headers),) = started
        return Outcome(self._router.take(), None, status, headers, body)

    def _prime(self, request: forms.Request) -> None:
        # Routes may remember the request before: let it be a telling one.
        if request.path is None:
            nothing = forms.ATTACH.but(body=b'')
            self._call(
                self._router,
                {
                    **nothing.environ(),
                    **identity(random.Random(0), False, False),
                },
            )

    @staticmethod
    def _body_of(request: forms.Request) -> bytes:
        try:
            body: bytes = webob.Request(request.environ()).body
        except OSError:
            body = b''
        return body


def _is_nonsense(request: forms.Request) -> bool:
    """Whether a request may be refused, whatever Cinder makes of it.

    A length below zero, which no server hands over, and a document nested
    more deeply than the filter says that it reads.
    """
    try:
        if int(request.length or 0) < 0:
            return True
    except ValueError:
        pass
    try:
        return _depth(json.loads(request.body)) > guard_request.MAX_DEPTH
    except ValueError:
        return False
    except RecursionError:
        return True


def _only_collates(request: forms.Request) -> bool:
    """Whether an id in the path is a row's only by the rules of a database.

    The filter cannot look it up, and refuses the request.
    """
    path = (request.path or '').encode('latin-1', 'replace')
    parts = path.decode(errors='replace').split('/')
    return any(
        router.collate(part.removesuffix('.json')) in _IDS
        and not uuidutils.is_uuid_like(part.removesuffix('.json'))
        for part in parts
    )


_IDS = {
    *(row.id for row in router.VOLUMES),
    *(row.id for row in router.ATTACHMENTS),
    *(row.id for row in router.GROUPS),
} - {*router.WORDS}


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 0
    return 1 + max(map(_depth, value), default=0)
