# SPDX-License-Identifier: Apache-2.0


"""Plugin of python-openstackclient: ``openstack attachguard audit`` and so on.

https://docs.openstack.org/python-openstackclient/latest/contributor/plugins.html
"""

from __future__ import annotations

import argparse
from typing import Any

API_NAME = 'attachguard'
API_VERSION_OPTION = 'os_attachguard_api_version'
API_VERSIONS = {'1': 'attachguard.cmd.osc'}
DEFAULT_API_VERSION = '1'


def make_client(instance: Any) -> None:
    """Make nothing: the commands use the connection of openstacksdk."""


def build_option_parser(
    parser: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """Add nothing to the global options."""
    return parser
