# SPDX-License-Identifier: Apache-2.0

"""The process in which :class:`attachguard.testing.embedded.EmbeddedCinder`
runs Cinder: API, scheduler and volume service in one.

It is run as a file, not with ``-m``. So Cinder's monkey patching runs before
any other import, including that of attachguard's own package::

    python _cinder_process.py eventlet|threads PORT_FILE cinder.conf

It writes the API's port to PORT_FILE when Cinder can create volumes. It exits
when its standard input is closed; the kernel closes it even if the parent is
killed.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import pathlib
import sys
from typing import Any


def _exit_with_parent() -> None:
    # The functions are bound before the monkey patching replaces them. The
    # process exits without a graceful stop, which can take a minute; a test
    # has nothing to save.
    read, exit_process = os.read, os._exit
    while read(0, 4096):
        pass
    exit_process(0)


def _use_greenthreads() -> None:
    # In every release, this module patches before its other imports.
    import cinder.cmd.api  # noqa: F401


def _use_threads() -> None:
    try:
        from cinder import monkey_patch
    except ImportError:
        # Up to Cinder 28, threads can serve the API, but its RPC servers use
        # greenthreads, which would not run.
        import oslo_messaging

        get_rpc_server = oslo_messaging.get_rpc_server

        def on_threads(*args: Any, **kwargs: Any) -> Any:
            return get_rpc_server(*args, **{**kwargs, 'executor': 'threading'})

        oslo_messaging.get_rpc_server = on_threads
    else:
        monkey_patch.patch('threading')


def _initialize() -> None:
    """Initialize the process, as each of Cinder's services does."""
    from cinder import coordination
    from cinder import objects
    from cinder import rpc
    from cinder.common import config
    from oslo_config import cfg
    from oslo_log import log

    objects.register_all()
    cfg.CONF(sys.argv[1:], project='cinder')
    config.set_middleware_defaults()
    log.setup(cfg.CONF, 'cinder')
    coordination.COORDINATOR.start()
    rpc.init(cfg.CONF)


def _create_database() -> None:
    """Create the tables and the volume type ``multiattach``."""
    from cinder import context
    from cinder import exception
    from cinder.db import migration
    from cinder.volume import volume_types

    migration.db_sync()
    # It exists if an earlier instance used the directory.
    with contextlib.suppress(exception.VolumeTypeExists):
        volume_types.create(
            context.get_admin_context(),
            'multiattach',
            {'multiattach': '<is> True'},
        )


def _start_services() -> None:
    """Start the volume service and the scheduler.

    The scheduler starts second. Its start queries the volume services for
    their capabilities and waits for their responses.
    """
    from cinder import service

    for host, binary in (
        ('embedded@nostorage', 'cinder-volume'),
        ('embedded', 'cinder-scheduler'),
    ):
        service.Service.create(
            host=host,
            binary=binary,
            service_name=host.partition('@')[2] or None,
            coordination=True,
        ).start()


def _serve_eventlet(ready: pathlib.Path) -> None:
    """Serve with oslo.service on greenthreads, as cinder-api does."""
    from cinder import service

    api = service.WSGIService('osapi_volume')
    service.serve(api)
    report(api.server.port, ready)
    service.wait()


def _lock_database_early() -> None:
    """Make each transaction take SQLite's write lock at its beginning.

    oslo.db begins a transaction without a lock. Two threads that have read and
    then write would wait for each other, and SQLite fails immediately with
    "database is locked". Greenthreads do not switch in between; they would
    block each other with this lock.
    """
    import sqlalchemy.engine
    import sqlalchemy.event

    def begin(
        connection: Any,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> tuple[str, Any]:
        if statement == 'BEGIN':
            statement = 'BEGIN IMMEDIATE'
        return statement, parameters

    sqlalchemy.event.listen(
        sqlalchemy.engine.Engine, 'before_cursor_execute', begin, retval=True
    )


def _serve_threads(ready: pathlib.Path) -> None:
    """Serve on a pool of threads, as a threaded WSGI server does."""
    import waitress.server

    server = waitress.server.create_server(
        load_application(),
        host='127.0.0.1',
        port=0,
        threads=16,
    )
    report(server.effective_port, ready)
    server.run()


def load_application() -> Any:
    """Load the API from its paste file.

    :returns: the WSGI application
    """
    from oslo_config import cfg
    from oslo_service import wsgi

    return wsgi.Loader(cfg.CONF).load_app('osapi_volume')


def report(port: int, ready: pathlib.Path) -> None:
    """Report that the API is ready.

    :param port: its port
    :param ready: file to write the port to
    """
    # The file is renamed, so that a reader never finds part of a number.
    partial = ready.with_suffix('.partial')
    partial.write_text(str(port))
    partial.rename(ready)


def prepare(server: str, cinder_conf: str, services: bool = True) -> None:
    """Start everything but the API in this process.

    :param server: ``eventlet``, or ``threads`` for any threaded WSGI server
    :param cinder_conf: the configuration file
    :param services: False to start neither scheduler nor volume service
    """
    if server == 'eventlet':
        _use_greenthreads()
    else:
        _use_threads()

    sys.argv[1:] = ['--config-file', cinder_conf]
    _initialize()
    if server == 'threads':
        _lock_database_early()
    # A server with several processes starts them concurrently.
    with open(f'{cinder_conf}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _create_database()
        if services:
            _start_services()


def main(server: str, ready: str, cinder_conf: str) -> None:
    """Run Cinder until standard input ends.

    :param server: ``eventlet`` or ``threads``
    :param ready: file to write the port to
    :param cinder_conf: the configuration file
    """
    _thread.start_new_thread(_exit_with_parent, ())
    prepare(server, cinder_conf)
    serve = _serve_eventlet if server == 'eventlet' else _serve_threads
    serve(pathlib.Path(ready))


if __name__ == '__main__':
    # As python -P does, which is since Python 3.11: the modules beside this
    # file are not to be imported by their short names.
    del sys.path[0]
    main(*sys.argv[1:])
