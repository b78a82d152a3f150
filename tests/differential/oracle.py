# SPDX-License-Identifier: Apache-2.0

"""What an ordinary caller may do, worked out from what was done.

The table of the default rules once more, written without a look at the
filter's own, and applied not to a request but to the effect that it had.
"""

from __future__ import annotations

from collections.abc import Callable
import enum
import uuid

from tests.differential import router


class Answer(enum.Enum):
    """Whether Nova has a volume on a server."""

    HAS = 'has it'
    HAS_NOT = 'has not'
    UNKNOWN = 'unknown'


Nova = Callable[[str, str], Answer]
#: the id of the only attachment by which a server has a volume, where Nova
#: knows; not while it moves the server
By = Callable[[str, str], str | None]

_ONLY_IF_ATTACHED = ('os-attach', 'attachment-create')
_ONLY_IF_NOT_ATTACHED = (
    'os-detach',
    'os-terminate_connection',
    'os-begin_detaching',
)


def permitted(effect: router.Effect, nova: Nova, by: By) -> bool:
    """Whether an ordinary caller may have an effect, by the default rules.

    :param effect: what Cinder did
    :param nova: what Nova says of a server and a volume
    :param by: by which attachment Nova says that a server has a volume
    """
    if not effect.guarded:
        return True
    assert effect.volume is not None
    of_volume = [
        attachment
        for attachment in router.ATTACHMENTS
        if attachment.server is not None and attachment.volume == effect.volume
    ]
    if effect.operation in _ONLY_IF_ATTACHED:
        if effect.server is None:
            return effect.operation == 'attachment-create'
        server = str(uuid.UUID(effect.server))
        if any(attachment.server == server for attachment in of_volume):
            return False
        return nova(server, effect.volume) is Answer.HAS
    meant = [
        attachment
        for attachment in of_volume
        # os-detach removes the volume's export, whichever it names.
        if effect.operation == 'os-detach'
        or effect.attachment in (None, attachment.id)
    ]
    answers = [nova(str(one.server), one.volume) for one in meant]
    if effect.operation == 'attachment-update':
        return all(
            answer is Answer.HAS and one.status == 'reserved'
            for one, answer in zip(meant, answers, strict=True)
        )
    if effect.operation == 'attachment-complete':
        return all(answer is Answer.HAS for answer in answers)
    if effect.operation in _ONLY_IF_NOT_ATTACHED:
        return all(answer is Answer.HAS_NOT for answer in answers)
    if effect.operation == 'attachment-delete':
        return all(
            answer is Answer.HAS_NOT
            or answer is Answer.HAS
            and by(str(one.server), one.volume) not in (None, one.id)
            for one, answer in zip(meant, answers, strict=True)
        )
    return True
