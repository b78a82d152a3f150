# SPDX-License-Identifier: Apache-2.0

"""Looks for sequences of members' calls that end in disagreement.

On a whole real cloud, members of two projects make calls to Cinder at the
moments between Nova's own. When nothing moves any more, Cinder's and Nova's
records are compared::

    python -m tests.explorer --minutes 30 --seed 1

``gate``
    The filter that holds Nova's calls in Cinder's pipeline.
``volume``
    A volume driver that records exports.
``acts``, ``calls``
    What Nova does, and what members do meanwhile.
``sequences``
    The choice of both, from a seed.
``world``
    The servers and volumes of one sequence.
``agreement``
    What must be true afterwards.
``explorer``
    Runs sequences, and reduces one that fails.
"""
