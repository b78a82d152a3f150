# SPDX-License-Identifier: Apache-2.0

"""Write the policy file for clouds whose Nova sends no service tokens.

oslopolicy-sample-generator comments every rule out; this file is to be used
as it is.  ``make genconfig`` writes it anew.
"""

from __future__ import annotations

import pathlib
import sys
import textwrap

from attachguard.guard import default_rules

PRESET = (
    pathlib.Path(__file__).parents[1]
    / 'etc/attachguard-policy.no-service-token.yaml.sample'
)

_HEADER = """
For clouds whose Nova sends no service tokens to Cinder ([service_user]
send_service_user_token = false). Use it as it is: set policy_file in the
[attachguard] group to its name.

Without a service token, Nova's own calls look like a user's, so these rules
open what Nova needs, at the moments at which it needs it. A user can then also
reserve a volume for a server that does not exist, delete an attachment that is
not attached yet, and begin to detach a volume that a server has; since
CVE-2023-2088 Cinder itself refuses to clear it then. Nobody can complete an
attachment that Nova does not have.

Better: set send_service_user_token on every Nova process, as Cinder has
required since CVE-2023-2088, and remove this file.
"""


def _comment(text: str) -> str:
    paragraphs = text.strip().split('\n\n')
    return '\n#\n'.join(
        textwrap.fill(
            ' '.join(paragraph.split()),
            79,
            initial_indent='# ',
            subsequent_indent='# ',
            break_on_hyphens=False,
        )
        for paragraph in paragraphs
    )


def preset() -> str:
    """The file's text."""
    parts = [_comment(_HEADER)]
    for rule in default_rules.list_rules():
        if rule.name in default_rules.NO_SERVICE_TOKEN:
            check = default_rules.NO_SERVICE_TOKEN[rule.name]
            what = (rule.description or '').partition('. ')[0]
            parts.append(f'{_comment(what + ".")}\n"{rule.name}": "{check}"')
    return '\n\n'.join(parts) + '\n'


def main() -> int:
    """Write the file.

    :returns: the exit code
    """
    PRESET.write_text(preset())
    return 0


if __name__ == '__main__':
    sys.exit(main())
