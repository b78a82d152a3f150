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
