# SPDX-License-Identifier: Apache-2.0


"""The audit: volumes whose records in Cinder and Nova disagree, and repair.

Data flows one way::

    APIs -> inventory -> cases -> findings -> plan -> repair -> journal
                                     |                             |
                                  reports                        undo

:mod:`~attachguard.audit.collect.api` is the only module that talks to a cloud,
:mod:`~attachguard.audit.repair.sql` the only one that talks to a database.
"""
