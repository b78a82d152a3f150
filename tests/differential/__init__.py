# SPDX-License-Identifier: Apache-2.0

"""Does the filter read a request exactly as Cinder does?

The filter is run before Cinder's own router, whose effects are recorded in
the place of being performed, over hand-written and generated requests.
"""
