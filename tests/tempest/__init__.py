# SPDX-License-Identifier: Apache-2.0
"""Tempest against a whole real cloud, without the guard and with it.

``python -m tests.tempest`` runs the same tests twice and compares them one by
one. They may differ only where ``selection.yaml`` says so, and says why.

``selection``
    Which tests run, and which must differ: ``selection.yaml``.
``config``
    tempest.conf for a cloud of :mod:`tests.cloud`.
``run``
    One run, in one mode of the cloud.
``compare``
    The comparison of two runs.
"""
