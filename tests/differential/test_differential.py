# SPDX-License-Identifier: Apache-2.0

"""The filter before Cinder's own router: forms, and generated requests."""

from __future__ import annotations

from collections.abc import Iterator
import functools
import io
import os
import random
import re
from typing import Any

import pytest

from attachguard.guard import request as guard_request
from attachguard.nova import client as nova_client
from tests.differential import forms
from tests.differential import generator
from tests.differential import harness
from tests.differential import naive
from tests.differential import router
from tests.differential import run

SEED = 20140731

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(scope='module')
def recording() -> Iterator[router.RecordingRouter]:
    """Cinder's router."""
    made = router.RecordingRouter()
    yield made
    made.close()


@pytest.fixture(scope='module')
def under_test(recording: router.RecordingRouter) -> harness.Harness:
    """The filter, in front of Cinder's router."""
    return harness.Harness(harness.attachguards(), SEED, recording)


@pytest.fixture
def naively(recording: router.RecordingRouter) -> harness.Harness:
    """A filter that knows the API reference alone."""
    return harness.Harness(
        {harness.Regime.DENY: lambda app, nova: naive.NaiveGuard(app)},
        SEED,
        recording,
    )


@pytest.mark.parametrize(
    'index', range(len(forms.FORMS)), ids=[form.name for form in forms.FORMS]
)
def test_form(under_test: harness.Harness, index: int) -> None:
    form = forms.FORMS[index]
    under_test.tally = harness.Tally()
    rng = random.Random(index)
    bare = under_test.check(form.request, rng, form.admin, index)
    reached = {item.operation for item in bare.effects if item.guarded}
    assert reached == ({form.reaches} if form.reaches else set())
    assert under_test.tally.findings == []


def test_names_of_forms_differ() -> None:
    names = [form.name for form in forms.FORMS]
    assert len(set(names)) == len(names)


def test_every_operation_has_forms() -> None:
    reached = {form.reaches for form in forms.FORMS}
    assert reached >= {
        *forms.OPERATIONS,
        'attachment-create',
        'attachment-update',
        'attachment-complete',
        'attachment-delete',
        'transfer-create',
        'group-delete',
    }


def test_generated_requests(pytestconfig: pytest.Config) -> None:
    first, requests, seed = (
        pytestconfig.getoption(name, default)
        for name, default in (
            ('--first', 0),
            ('--requests', 2000),
            ('--seed', SEED),
        )
    )
    tally = run.run_all(first, requests, seed, os.cpu_count() or 1)
    assert tally.findings == [], f'--seed {seed}'
    assert tally.requests == requests
    if requests > 100:
        # Many reach a guarded operation, and the filter stops many.
        assert tally.reaching > requests / 10
        assert tally.stopped > requests / 10


def test_generator_repeats_itself() -> None:
    indexes = range(len(forms.FORMS), len(forms.FORMS) + 200)
    first = [generator.request(SEED, index) for index in indexes]
    assert first == [generator.request(SEED, index) for index in indexes]
    other = [generator.request(SEED + 1, index) for index in indexes]
    assert first != other


# Each stands for a way of reading a request that the naive filter lacks.
KINDS = [
    "os-attach-suffix-'.json'",
    "os-attach-suffix-'\\n'",
    "attachment-delete-suffix-'.json'",
    "attachment-create-suffix-'.json\\n'",
    'override-of-PUT',
    'override-long-s',
    'override-escaped-name',
    'attachment-delete-by-GET',
    'attachment-update-by-POST',
    'id-upper-case',
    'attachment-trailing-blank',
    "transfer-create-suffix-'.json'",
    "group-delete-0-0-'.json'",
    'group-delete-1-by-POST',
    'group-delete-3-by-POST',
    "volume-named-attachments-0-''",
    'type-vendor',
]


def _raises(app: Any, environ: Any, start_response: Any) -> Any:
    raise ValueError('a bug')


def _fails(app: Any, environ: Any, start_response: Any) -> Any:
    start_response('500 Internal Server Error', [])
    return [b'']


def _adds_a_header(app: Any, environ: Any, start_response: Any) -> Any:
    environ['HTTP_X_ROLES'] = 'admin'
    return app(environ, start_response)


def _drops_a_header(app: Any, environ: Any, start_response: Any) -> Any:
    environ.pop('HTTP_OPENSTACK_API_VERSION', None)
    return app(environ, start_response)


def _eats_the_body(app: Any, environ: Any, start_response: Any) -> Any:
    environ['wsgi.input'] = io.BytesIO()
    environ['CONTENT_LENGTH'] = '0'
    return app(environ, start_response)


def _sends_it_twice(app: Any, environ: Any, start_response: Any) -> Any:
    body = environ['wsgi.input'].read()
    environ['wsgi.input'] = io.BytesIO(body)
    app(environ, lambda *args: None)
    environ['wsgi.input'] = io.BytesIO(body)
    return app(environ, start_response)


def _changes_the_answer(app: Any, environ: Any, start_response: Any) -> Any:
    return app(
        environ,
        lambda status, headers, exc_info=None: start_response(
            status, [*headers, ('X-Seen', 'yes')]
        ),
    )


def _tries_it_first(app: Any, environ: Any, start_response: Any) -> Any:
    body = environ['wsgi.input'].read()
    copy = {**environ, 'wsgi.input': io.BytesIO(body)}
    app(copy, lambda *args: None)
    environ['wsgi.input'] = io.BytesIO(body)
    return app(environ, start_response)


def _refuses(app: Any, environ: Any, start_response: Any) -> Any:
    start_response('403 Forbidden', [])
    return [b'']


def _lets_pass(app: Any, environ: Any, start_response: Any) -> Any:
    return app(environ, start_response)


@pytest.mark.parametrize(
    ('faulty', 'regime', 'expected'),
    [
        (_raises, harness.Regime.OPEN, harness.Wrong.RAISED),
        (_fails, harness.Regime.DENY, harness.Wrong.RAISED),
        (_adds_a_header, harness.Regime.OPEN, harness.Wrong.ALTERED),
        (_drops_a_header, harness.Regime.SERVICE, harness.Wrong.ALTERED),
        (_eats_the_body, harness.Regime.OPEN, harness.Wrong.ALTERED),
        (_sends_it_twice, harness.Regime.OPEN, harness.Wrong.ALTERED),
        (_changes_the_answer, harness.Regime.OPEN, harness.Wrong.ALTERED),
        (_tries_it_first, harness.Regime.OPEN, harness.Wrong.REACHED),
        (_refuses, harness.Regime.SERVICE, harness.Wrong.REFUSED),
        (_refuses, harness.Regime.OPEN, harness.Wrong.REFUSED),
        (_lets_pass, harness.Regime.DENY, harness.Wrong.REACHED),
        (_lets_pass, harness.Regime.UNSEEN, harness.Wrong.REACHED),
        (_lets_pass, harness.Regime.OPEN, None),
        (_refuses, harness.Regime.DENY, None),
    ],
)
def test_harness_finds_what_is_wrong(
    recording: router.RecordingRouter,
    faulty: Any,
    regime: harness.Regime,
    expected: harness.Wrong | None,
) -> None:
    tester = harness.Harness(
        {regime: lambda app, nova: functools.partial(faulty, app)},
        SEED,
        recording,
    )
    tester.check(forms.ATTACH, random.Random(0), False, 0)
    if expected is None:
        assert tester.tally.findings == []
    else:
        assert expected in {item.wrong for item in tester.tally.findings}


@pytest.mark.parametrize(
    ('admin', 'busy', 'volumes', 'refused'),
    [
        (True, False, {forms.FREE}, False),
        (True, True, {forms.FREE}, True),
        (True, False, set(), True),
        (False, False, {forms.FREE}, True),
    ],
)
def test_harness_asks_the_oracle(
    recording: router.RecordingRouter,
    monkeypatch: pytest.MonkeyPatch,
    admin: bool,
    busy: bool,
    volumes: set[str],
    refused: bool,
) -> None:
    server = nova_client.Server(forms.SERVER, busy, frozenset(volumes))
    monkeypatch.setattr(harness.Nova, 'server', lambda *args: server)
    monkeypatch.setattr(harness.Nova, 'attachment_id', lambda *args: None)
    tester = harness.Harness(
        {
            harness.Regime.DEFAULT: lambda app, nova: functools.partial(
                _lets_pass, app
            )
        },
        SEED,
        recording,
    )
    tester.check(forms.ATTACH, random.Random(0), admin, 0)
    assert tester.tally.wrong[harness.Wrong.REACHED] == refused


def test_generated_requests_find_a_path_that_is_read_from_its_end(
    recording: router.RecordingRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes /volumes/attachments/action for an attachment's path."""
    pattern = guard_request._PATH.pattern
    greedy = re.compile(pattern.replace('.*?', '.*', 1), re.DOTALL)
    monkeypatch.setattr(guard_request, '_PATH', greedy)
    deny = harness.Regime.DENY
    tester = harness.Harness(
        {deny: harness.attachguards()[deny]}, SEED, recording
    )
    index = len(forms.FORMS)
    while index < 2000 and not tester.tally.wrong[harness.Wrong.REACHED]:
        tester.run(index)
        index += 1
    assert tester.tally.wrong[harness.Wrong.REACHED]


def test_harness_finds_ways_around_naive_filter(
    naively: harness.Harness,
) -> None:
    around = set()
    for index, form in enumerate(forms.FORMS):
        naively.tally = harness.Tally()
        naively.check(form.request, random.Random(index), form.admin, index)
        if naively.tally.wrong[harness.Wrong.REACHED]:
            around.add(form.name)
    assert around >= set(KINDS)
    # And it is no strawman: what is documented it stops.
    assert not around & {
        'create',
        'update',
        'complete',
        'delete',
        *(form.name for form in forms.FORMS if form.trap == 'As documented.'),
    }


def test_harness_finds_them_among_generated_requests(
    naively: harness.Harness,
) -> None:
    first = len(forms.FORMS)
    for index in range(first, first + 500):
        naively.run(index)
    assert naively.tally.wrong[harness.Wrong.REACHED] > 10
