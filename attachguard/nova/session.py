# SPDX-License-Identifier: Apache-2.0
"""The session of the queries to Nova, which reads responses to a limit."""

from __future__ import annotations

from http import cookiejar
import io
import time
from typing import Any

from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session as ksa_session
from oslo_config import cfg
import requests
import urllib3

from attachguard import opts

# One row of Nova's response is a few hundred bytes, a server with all the
# metadata that it may have some ten thousand; a token with the catalog of a
# cloud of many regions is some hundred kilobytes.
_MAX_RESPONSE = 1024 * 1024
_PIECE = 16 * 1024
_SMALL_PIECE = 64


class ResponseTooLong(requests.exceptions.RequestException):
    """A response that is longer than it may be."""


class BoundedAdapter(ksa_session.TCPKeepAliveAdapter):
    """keystoneauth's adapter, which reads responses to a limit.

    The timeout of ``requests`` bounds a single connect and a single read.
    Here it also bounds the time for the whole body, and a response has a
    maximum size.
    """

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request, and read the response.

        :raises ResponseTooLong: if it is longer than 1 MiB
        :raises requests.exceptions.RequestException: if there is none in time
        """
        response = super().send(request, True, timeout, verify, cert, proxies)
        started = time.monotonic()
        body = bytearray()
        unpaused = 0
        try:
            while piece := _read_piece(response.raw):
                body += piece
                if len(body) > _MAX_RESPONSE:
                    raise ResponseTooLong(f'more than {_MAX_RESPONSE} bytes')
                if timeout and time.monotonic() - started > timeout:
                    raise requests.exceptions.ReadTimeout(request=request)
                unpaused += len(piece)
                if unpaused >= _PIECE:
                    # With greenthreads, data that is there comes without a
                    # pause: let the others run.
                    unpaused = 0
                    time.sleep(0)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise requests.exceptions.ReadTimeout(exc) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise requests.exceptions.ConnectionError(exc) from exc
        finally:
            # Complete, the connection is in the pool again; else it is closed.
            response.raw.close()
        response.raw = io.BytesIO(body)
        return response


def _read_piece(raw: Any) -> bytes:
    """Read what has arrived of a body; empty at its end."""
    if hasattr(raw, 'read1'):
        piece: bytes = raw.read1(_PIECE, decode_content=True)
    else:
        # urllib3 1.26 waits until the piece is complete: let it be small.
        piece = raw.read(_SMALL_PIECE, decode_content=True)
    return piece


def load(
    conf: cfg.ConfigOpts,
    auth: plugin.BaseAuthPlugin | None,
    connections: int,
) -> ksa_session.Session:
    """Load the session.

    :param conf: with the ``[attachguard]`` options
    :param auth: the configured credentials, or None
    :param connections: how many it keeps
    """
    group = conf[opts.GROUP]
    session = loading.load_session_from_conf_options(
        conf,
        opts.session_section(conf),
        auth=auth,
        # keystoneauth would keep the timings of all requests.
        collect_timing=False,
        # Nova does not redirect, and a token must not follow a redirect.
        redirect=False,
    )
    if not session.timeout or session.timeout > group.nova_timeout:
        session.timeout = group.nova_timeout
    # Not every release of keystoneauth has these.
    tls = {
        name: getattr(session, name)
        for name in ('tls_ciphers', 'tls_min_version')
        if hasattr(session, name)
    }
    adapter = BoundedAdapter(pool_maxsize=connections, **tls)
    for scheme in ('http://', 'https://'):
        session.session.mount(scheme, adapter)
    # The session is shared by all callers: no cookie of one is for another.
    session.session.cookies.set_policy(
        cookiejar.DefaultCookiePolicy(allowed_domains=[])
    )
    return session
