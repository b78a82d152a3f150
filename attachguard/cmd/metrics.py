# SPDX-License-Identifier: Apache-2.0

"""``attachguard metrics``: serve the guard's metrics to Prometheus."""

from __future__ import annotations

import argparse
import pathlib
import socketserver
import sys
from typing import Any
from wsgiref import simple_server

from cliff import command


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """Not prometheus_client's, which old releases of it do not return."""

    daemon_threads = True


class _Handler(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests: there is one every few seconds."""


class Metrics(command.Command):
    """Serve the metrics of all cinder-api processes of this host.

    It reads the files in DIRECTORY, which the environment variable
    PROMETHEUS_MULTIPROC_DIR of cinder-api names, with [attachguard] prometheus
    = true. It runs until it is stopped.

    examples::

      attachguard metrics /run/cinder/metrics

    exit codes::

      1  it cannot be started
      2  the command line is wrong
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            'directory', metavar='DIRECTORY', type=pathlib.Path
        )
        parser.add_argument(
            '--address',
            default='127.0.0.1',
            help='Listen on this address (default: %(default)s).',
        )
        parser.add_argument(
            '--port',
            type=int,
            default=9877,
            help='Listen on this port (default: %(default)s).',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Serve.

        :returns: the exit code
        """
        try:
            import prometheus_client
            from prometheus_client import multiprocess

            registry = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(  # type: ignore[no-untyped-call]
                registry, path=str(parsed_args.directory)
            )
            server = simple_server.make_server(
                parsed_args.address,
                parsed_args.port,
                prometheus_client.make_wsgi_app(registry),
                _Server,
                _Handler,
            )
        except ImportError as exc:
            print(
                f"error: {exc}: pip install 'attachguard[prometheus]'",
                file=sys.stderr,
            )
            return 1
        except (OSError, ValueError, OverflowError) as exc:
            print(f'error: {exc}', file=sys.stderr)
            return 1
        print(f'listening on port {server.server_port}', file=sys.stderr)
        server.serve_forever()
        return 0
