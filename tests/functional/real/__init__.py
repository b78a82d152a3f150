# SPDX-License-Identifier: Apache-2.0

"""The real Keystone and the real Nova API, to compare the stubs with.

Each runs in a separate process on SQLite, without the other services of a
cloud. This is sufficient for requests that read.
"""
