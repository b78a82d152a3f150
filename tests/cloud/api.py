# SPDX-License-Identifier: Apache-2.0

"""Serve one of the API services with gunicorn, as operators do.

``python -m tests.cloud.api MODULE PORT ACCESS_LOG [ARGUMENT ...]``: the module
has the service's ``application``, and finds the arguments in ``sys.argv``.
Before Cinder 26, ``cinder.wsgi.wsgi`` makes it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from gunicorn.app import base

#: What a line of the access log says, parted by tabs: when, method, path,
#: status, the caller's global request id and the service's own.
ACCESS_LOG_FORMAT = '\t'.join(
    (
        '%(t)s',
        '%(m)s',
        '%(U)s',
        '%(s)s',
        '%({x-openstack-request-id}i)s',
        '%({x-openstack-request-id}o)s',
    )
)


class Server(base.BaseApplication):  # type: ignore[misc]
    """One worker with threads that loads a module's application.

    :param module: where ``application`` is
    :param options: gunicorn's settings
    """

    def __init__(self, module: str, options: dict[str, Any]) -> None:
        self._module = module
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            # Older ones do not have every setting.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        if importlib.util.find_spec(self._module) is None:
            older = importlib.import_module('cinder.wsgi.wsgi')
            return older.initialize_application()
        return importlib.import_module(self._module).application


def main() -> None:
    """Serve until a signal ends the process."""
    module, port, access_log, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    Server(
        module,
        {
            'bind': f'127.0.0.1:{port}',
            'worker_class': 'gthread',
            'threads': 16,
            'timeout': 120,
            'graceful_timeout': 3,
            'keepalive': 75,
            # Nova asks Neutron about 150 servers in one request.
            'limit_request_line': 8190,
            # It would be one for all of them.
            'control_socket_disable': True,
            'accesslog': access_log,
            'access_log_format': ACCESS_LOG_FORMAT,
        },
    ).run()


if __name__ == '__main__':
    main()
