# SPDX-License-Identifier: Apache-2.0

"""A demonstration of forged attachments on the real Cinder API.

``attachguard demo`` runs the same calls without the guard and with it.
:mod:`~attachguard.testing.demo.clouds` starts the two clouds,
:mod:`~attachguard.testing.demo.story` makes the calls in one cloud,
:mod:`~attachguard.testing.demo.cleanup` frees the volume with the forged
attachment, and :mod:`~attachguard.testing.demo.report` compares the results.
"""
