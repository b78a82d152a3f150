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
"""Is every request accounted for, on real servers, whatever Nova does?

Real Cinder behind the guard on uWSGI, gunicorn and eventlet; clients of every
kind; and a Nova that breaks in another way every few seconds. What enters the
pipeline and what leaves the guard is written down, and compared in the end
with what was sent and answered.

=============  ==========================================================
accounting     what must be true of a request, and what is not: pure
recorder       the two filters that write down what they see
servers        Cinder on each of the servers
faults         a bad connection to Nova, and the plan of what goes wrong
load           the clients
watch          memory, descriptors and threads
run            all of it together, as a command
=============  ==========================================================
"""
