"""Several worker processes behind one port (`WORKERS`).

`sts-trio serve` is then the *supervisor*: it listens, accepts, and passes each connection to the worker with the most
free places, over a socket pair (`SCM_RIGHTS`). It never reads a byte of a connection: once passed on, a call has
nothing to do with it. A worker is the same program as a service of one process, with an event loop of its own. Two
things differ: its connections come from the supervisor (`worker.PassedListener`), and it reports how many calls it has
(`worker.Worker`).

The kernel could choose instead, but it spreads calls badly. `SO_REUSEPORT` hashes addresses, and workers that accept
on one socket race for it: over many short requests both are even. Calls are few and last for minutes; then one worker
gets twice as many as another, and is full, or late, while the other has room.
"""
