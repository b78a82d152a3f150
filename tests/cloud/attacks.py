# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""Ways to write a forgery so that a filter might not see it for one.

Of what ``tests/differential`` tries on Cinder's router, that which a real
WSGI server, real middleware or a real database could read in another way.
Written on the wire as it is here: no client would send most of it.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import http.client

JSON = 'application/json'
FORM = 'application/x-www-form-urlencoded'
ACTION = '/v3/<project>/volumes/<volume>/action'
CREATE = '/v3/<project>/attachments'

_ARGUMENTS = '{"instance_uuid": "<server>", "mountpoint": "/dev/vdb"}'
_ATTACH = f'{{"os-attach": {_ARGUMENTS}}}'
_NAMED = '{"volume_uuid": "<volume>", "instance_uuid": "<server>"}'
_CREATE = f'{{"attachment": {_NAMED}}}'


@dataclasses.dataclass(frozen=True)
class Attack:
    """A forgery: the volume is to be attached to a server.

    :param name: what is odd in it
    :param forges: whether Cinder performs it, where nobody guards
    :param method: the HTTP method
    :param path: the request's target; ``<volume>`` and the like stand for ids
    :param body: likewise
    :param headers: instead of the usual ones, or (None) without them
    :param chunked: whether the body is sent in chunks, without a length
    """

    name: str
    forges: bool
    method: str = 'POST'
    path: str = ACTION
    body: str | bytes = _ATTACH
    headers: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    chunked: bool = False


def send(
    attack: Attack,
    address: str,
    token: str,
    ids: Mapping[str, str],
) -> tuple[int, bytes]:
    """Carry it out.

    :param address: host and port of Cinder's API
    :param token: whose it is
    :param ids: project, volume, server...
    :returns: status and body of the answer
    """
    words = _words(ids)
    body = attack.body
    if isinstance(body, str):
        body = _fill(body, words).encode()
    else:
        for name, value in words.items():
            body = body.replace(f'<{name}>'.encode(), value.encode())
    headers: dict[str, str | None] = {
        'X-Auth-Token': token,
        'Content-Type': JSON,
        'Accept': JSON,
        'OpenStack-API-Version': 'volume 3.70',
        'Content-Length': str(len(body)),
    }
    if attack.chunked:
        headers['Content-Length'] = None
        headers['Transfer-Encoding'] = 'chunked'
        half = len(body) // 2
        body = b''.join(
            b'%x\r\n%s\r\n' % (len(piece), piece)
            for piece in (body[:half], body[half:], b'')
        )
    headers |= attack.headers
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.putrequest(
            attack.method,
            _fill(attack.path, words),
            skip_accept_encoding=True,
        )
        for header, text in headers.items():
            if text is not None:
                connection.putheader(header, text)
        connection.endheaders()
        connection.send(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _fill(text: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(f'<{name}>', value)
    return text


def _words(ids: Mapping[str, str]) -> dict[str, str]:
    words = dict(ids)
    for name, value in ids.items():
        words[name.upper()] = value.upper()
        words[f'bare {name}'] = value.replace('-', '')
    return words


def _paths() -> list[Attack]:
    return [
        Attack(name, forges, path=path)
        for name, forges, path in (
            ('no project', True, '/v3/volumes/<volume>/action'),
            ('a format', True, f'{ACTION}.json'),
            ('another format', False, f'{ACTION}.xml'),
            ('two formats', False, f'{ACTION}.json.json'),
            ('a newline', True, f'{ACTION}%0a'),
            ('a format and a newline', True, f'{ACTION}.json%0A'),
            ('a carriage return', False, f'{ACTION}%0d'),
            ('a slash at the end', False, f'{ACTION}/'),
            ('slashes at the end', False, f'{ACTION}//'),
            ('slashes in the front', True, f'/{ACTION}'),
            (
                'a double slash',
                True,
                ACTION.replace('<project>/', '<project>//'),
            ),
            ('no id', False, ACTION.replace('<volume>', '')),
            (
                'escaped slashes',
                True,
                '/v3/<project>%2fvolumes%2F<volume>%2faction',
            ),
            (
                'twice escaped',
                False,
                '/v3/<project>/volumes%252f<volume>/action',
            ),
            ('an escaped letter', True, ACTION.replace('action', '%61ction')),
            ('an escaped version', True, ACTION.replace('v3', '%76%33')),
            ('a dot', False, ACTION.replace('volumes', './volumes')),
            ('dots', False, ACTION.replace('volumes', 'backups/../volumes')),
            (
                'escaped dots',
                False,
                ACTION.replace('volumes', 'x/%2e%2e/volumes'),
            ),
            ('a parameter', False, f'{ACTION};x=1'),
            ('a fragment', True, f'{ACTION}#x'),
            ('a query', True, f'{ACTION}?x=/attachments'),
            ('a backslash', False, ACTION.replace('/action', '\\action')),
            ('a whole URL', True, f'http://cinder{ACTION}'),
            ('an older version', False, ACTION.replace('v3', 'v2')),
            ('an upper-case version', False, ACTION.replace('v3', 'V3')),
            ('two versions', False, f'/v3{ACTION}'),
            ('no version', False, ACTION.replace('/v3', '')),
            (
                'upper-case words',
                False,
                '/v3/<project>/VOLUMES/<volume>/ACTION',
            ),
            ('another project', False, ACTION.replace('project', 'stranger')),
            (
                'an upper-case project',
                False,
                ACTION.replace('project', 'PROJECT'),
            ),
            (
                'two projects',
                False,
                ACTION.replace('<project>', '<project>/<project>'),
            ),
            ('a name for the id', False, ACTION.replace('<volume>', 'bait')),
            ('an upper-case id', True, ACTION.replace('volume>', 'VOLUME>')),
            (
                'an id without dashes',
                False,
                ACTION.replace('<vol', '<bare vol'),
            ),
            ('a blank behind the id', True, ACTION.replace('me>', 'me>%20')),
            (
                'a newline behind the id',
                False,
                ACTION.replace('me>', 'me>%0a'),
            ),
            ('a null in the id', False, ACTION.replace('me>', 'me>%00')),
            ('a format in the id', False, ACTION.replace('me>', 'me>.json')),
            (
                'an id in braces',
                False,
                ACTION.replace('<volume>', '%7b<volume>%7d'),
            ),
            (
                'an id that is a URN',
                False,
                ACTION.replace('<vol', 'urn:uuid:<vol'),
            ),
        )
    ]


def _methods() -> list[Attack]:
    override = f'{ACTION}?_method=POST'
    return [
        *(
            Attack(f'{method} that is a POST', True, method, override)
            for method in ('GET', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS')
        ),
        Attack('a small post', True, 'PUT', f'{ACTION}?_method=post'),
        Attack(
            'an escaped post',
            True,
            'GET',
            f'{ACTION}?a=_method&%5fmethod=%50OST',
        ),
        Attack(
            'the last of two methods',
            True,
            'PUT',
            f'{ACTION}?_method=GET&_method=POST',
        ),
        Attack(
            'behind a semicolon', True, 'PUT', f'{ACTION}?a=b;_method=POST'
        ),
        Attack('a POST that is a PUT', False, 'POST', f'{ACTION}?_method=PUT'),
        Attack('a PUT', False, 'PUT'),
        Attack('a lower-case method', False, 'post'),
        *(
            Attack(f'{header}', False, 'PUT', headers={header: 'POST'})
            for header in (
                'X-HTTP-Method-Override',
                'X-HTTP-Method',
                'X-Method-Override',
            )
        ),
        Attack(
            'another URL by a header',
            True,
            headers={'X-Original-URL': '/v3', 'X-Rewrite-URL': '/v3'},
        ),
        Attack(
            'another prefix by a header',
            True,
            headers={
                'X-Forwarded-Prefix': '/x',
                'Forwarded': 'host=x;proto=https',
            },
        ),
        Attack(
            'another path by a header',
            True,
            headers={'Script-Name': '/v3/x', 'Path-Info': '/'},
        ),
    ]


def _bodies() -> list[Attack]:
    deep = '{"a":' * 60 + '1' + '}' * 60
    return [
        Attack(name, forges, body=body)
        for name, forges, body in (
            (
                'a key twice',
                True,
                f'{{"os-attach": null, "os-attach": {_ARGUMENTS}}}',
            ),
            (
                'another server first',
                True,
                _ATTACH.replace('{"inst', '{"instance_uuid": null, "inst'),
            ),
            (
                'an escaped key',
                True,
                _ATTACH.replace('os-', '\\u006f\\u0073\\u002d'),
            ),
            (
                'an escaped server',
                True,
                _ATTACH.replace('instance_uuid', 'instance\\u005fuuid'),
            ),
            ('white space', True, f' \t\r\n{_ATTACH}\n'),
            ('much white space', True, ' ' * 60_000 + _ATTACH),
            (
                'another action first',
                False,
                f'{{"os-reserve": null, {_ATTACH[1:]}',
            ),
            (
                'another action last',
                False,
                f'{_ATTACH[:-1]}, "os-unreserve": null}}',
            ),
            ('a list', False, f'[{_ATTACH}]'),
            ('a byte order mark', False, f'\ufeff{_ATTACH}'),
            ('two documents', False, f'{_ATTACH}{_ATTACH}'),
            ('a comment', False, f'/**/{_ATTACH}'),
            (
                'a null in the key',
                False,
                _ATTACH.replace('os-attach', 'os-attach\\u0000'),
            ),
            (
                'a blank in the key',
                False,
                _ATTACH.replace('os-attach', ' os-attach'),
            ),
            (
                'an upper-case key',
                False,
                _ATTACH.replace('os-attach', 'OS-ATTACH'),
            ),
            (
                'a huge number',
                False,
                _ATTACH.replace('"<server>"', '1' * 5000),
            ),
            (
                'an infinite number',
                False,
                _ATTACH.replace('"<server>"', '1e999'),
            ),
            ('no number', False, _ATTACH.replace('"<server>"', 'NaN')),
            ('deep nesting', False, _ATTACH.replace('"/dev/vdb"', deep)),
            ('very deep nesting', False, '{"os-attach":' + '[' * 50_000),
            (
                'a host as well',
                True,
                _ATTACH.replace('{"inst', '{"host_name": "a-host", "inst'),
            ),
            (
                'an upper-case server',
                True,
                _ATTACH.replace('server', 'SERVER'),
            ),
            (
                'a server without dashes',
                True,
                _ATTACH.replace('server', 'bare server'),
            ),
            (
                'a server in braces',
                True,
                _ATTACH.replace('<server>', '{<server>}'),
            ),
            (
                'a server that is a URN',
                True,
                _ATTACH.replace('<server>', 'urn:uuid:<server>'),
            ),
            (
                'a newline behind the server',
                False,
                _ATTACH.replace('<server>', '<server>\\n'),
            ),
            (
                'a blank before the server',
                False,
                _ATTACH.replace('<server>', ' <server>'),
            ),
            (
                'a path for the server',
                False,
                _ATTACH.replace('<server>', '<server>/../x?y'),
            ),
            (
                'a list of servers',
                False,
                _ATTACH.replace('"<server>"', '["<server>"]'),
            ),
            ('an empty server', False, _ATTACH.replace('<server>', '')),
            (
                'neither server nor host',
                False,
                '{"os-attach": {"mountpoint": "/dev/vdb"}}',
            ),
            (
                'only a host',
                True,
                _ATTACH.replace('instance_uuid', 'host_name'),
            ),
        )
    ] + [
        Attack(
            f'in {coding}',
            False,
            body=_ATTACH.encode(coding),
            headers={'Content-Type': f'{JSON}; charset={coding}'},
        )
        for coding in ('utf-16', 'utf-32')
    ]


def _headers() -> list[Attack]:
    xml = '<os-attach><instance_uuid><server></instance_uuid></os-attach>'
    multipart = (
        '--x\r\nContent-Disposition: form-data; name="_method"\r\n\r\n'
        'POST\r\n--x--\r\n'
    )
    return [
        *(
            Attack(
                f'the type {content_type!r}',
                forges,
                headers={'Content-Type': content_type},
            )
            for content_type, forges in (
                ('application/json;charset=utf-16', True),
                ('application/vnd.openstack.volume+json', True),
                ('APPLICATION/JSON', False),
                ('text/plain', False),
                ('application/xml', False),
                (FORM, False),
                (None, False),
            )
        ),
        Attack(
            'XML', False, body=xml, headers={'Content-Type': 'application/xml'}
        ),
        Attack(
            'a form',
            False,
            body=f'os-attach={_ARGUMENTS}',
            headers={'Content-Type': FORM},
        ),
        Attack(
            'a form with a method',
            False,
            'POST',
            body=f'_method=POST&x={_ATTACH}',
            headers={'Content-Type': FORM},
        ),
        Attack(
            'parts',
            False,
            body=multipart,
            headers={'Content-Type': 'multipart/form-data; boundary=x'},
        ),
        *(
            Attack(
                f'the version {version!r}',
                forges,
                headers={'OpenStack-API-Version': version},
            )
            for version, forges in (
                (None, True),
                ('volume 3.0', True),
                ('volume latest', True),
                ('compute 2.1, volume 3.27', True),
                ('volume 3.9999', False),
                ('volume 2.0', False),
                ('volume', False),
            )
        ),
        Attack('chunks', True, chunked=True),
        Attack(
            'chunks and a length',
            False,
            chunked=True,
            headers={'Content-Length': '2'},
        ),
        Attack('no length', False, headers={'Content-Length': None}),
        Attack('a length too short', False, headers={'Content-Length': '10'}),
        Attack(
            'a length with a sign', False, headers={'Content-Length': '+83'}
        ),
        Attack(
            'a coding of nobody', True, headers={'Content-Encoding': 'gzip'}
        ),
        Attack('nothing accepted', True, headers={'Accept': 'image/png;q=0'}),
    ]


def _creations() -> list[Attack]:
    def create(
        name: str,
        forges: bool,
        body: str = _CREATE,
        path: str = CREATE,
        **more: str,
    ) -> Attack:
        return Attack(name, forges, more.get('method', 'POST'), path, body)

    return [
        create('create: as documented', True),
        create('create: no project', True, path='/v3/attachments'),
        create('create: a format', True, path=f'{CREATE}.json'),
        create('create: a newline', True, path=f'{CREATE}%0a'),
        create('create: a slash at the end', False, path=f'{CREATE}/'),
        create(
            'create: a GET', True, path=f'{CREATE}?_method=POST', method='GET'
        ),
        create(
            'create: the server twice',
            True,
            _CREATE.replace('{"vol', '{"instance_uuid": null, "vol'),
        ),
        create(
            'create: the attachment twice',
            True,
            f'{{"attachment": {{}}, {_CREATE[1:]}',
        ),
        create(
            'create: escaped keys',
            True,
            _CREATE.replace('instance_uuid', '\\u0069nstance_uuid'),
        ),
        create(
            'create: an upper-case volume',
            True,
            _CREATE.replace('volume>', 'VOLUME>'),
        ),
        create(
            'create: a volume without dashes',
            False,
            _CREATE.replace('<vol', '<bare vol'),
        ),
        create(
            'create: an upper-case server',
            True,
            _CREATE.replace('server', 'SERVER'),
        ),
        create(
            'create: a server without dashes',
            True,
            _CREATE.replace('server', 'bare server'),
        ),
        create(
            'create: a number for the server',
            False,
            _CREATE.replace('"<server>"', '7'),
        ),
        create(
            'create: false for the server',
            False,
            _CREATE.replace('"<server>"', 'false'),
        ),
        create(
            'create: an empty server', False, _CREATE.replace('<server>', '')
        ),
        create(
            'create: connected at once',
            True,
            _CREATE.replace(
                '}}', ', "connector": {"host": "x", "instance_uuid": null}}}'
            ),
        ),
        create(
            'create: one key more',
            False,
            _CREATE.replace('}}', '}, "os-attach": {}}'),
        ),
        create(
            'create: by an action', False, path=f'{CREATE}/<volume>/action'
        ),
    ]


ATTACKS: tuple[Attack, ...] = (
    Attack('as documented', True),
    *_paths(),
    *_methods(),
    *_bodies(),
    *_headers(),
    *_creations(),
)
