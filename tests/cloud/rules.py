# SPDX-License-Identifier: Apache-2.0
"""The guard's rules, changed under a running cloud as an operator does."""

from __future__ import annotations

from collections.abc import Mapping
import pathlib
import re
import textwrap

import yaml

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes

_GUIDE = pathlib.Path(__file__).parents[2] / 'doc/source/admin'
_BLOCK = re.compile(r'^\.\. code-block:: yaml\n((?:\n|   .*\n)+)', re.M)


class Rules:
    """A policy file that the guard reads while the cloud runs.

    :param cloud: the cloud
    """

    def __init__(self, cloud: clouds.Cloud) -> None:
        self.path = cloud.directory / 'etc' / 'cinder' / 'guard-rules.yaml'
        #: The mode that has the guard read the file.
        self.mode = modes.Mode(
            'rules of a file',
            guard=True,
            guard_options={
                'policy_file': self.path,
                # The README advises this for the API's sixteen threads.
                'nova_max_concurrency': 8,
                # No test waits for half a minute.
                'settle': 5,
            },
        )

    def write(self, rules: Mapping[str, str]) -> None:
        """Replace the rules; the others have their defaults.

        :param rules: name to text
        """
        new = self.path.with_suffix('.new')
        new.write_text(yaml.safe_dump(dict(rules)))
        new.rename(self.path)


def documented(page: str, section: str, **ids: str) -> dict[str, str]:
    """The rules that the administrator's guide advises to set.

    :param page: the name of the page
    :param section: the heading of the section
    :param ids: what to write for ``<name>``, by name
    :returns: name to text of each rule
    :raises LookupError: the section has no rules
    """
    text = (_GUIDE / f'{page}.rst').read_text()
    _before, _heading, text = text.partition(f'\n{section}\n===')
    block = _BLOCK.search(text.partition('\n===')[0])
    if block is None:
        raise LookupError(f'{page}.rst: no rules in {section!r}')
    rules: dict[str, str] = yaml.safe_load(textwrap.dedent(block[1]))
    for name, value in ids.items():
        rules = {
            key: rule.replace(f'<{name}>', value)
            for key, rule in rules.items()
        }
    return rules
