"""Several worker processes behind one port (`WORKERS`).

`sts-trio serve` is then the *switch*: it listens, accepts, and hands each connection to the worker with the most free
places, over a socket pair (`SCM_RIGHTS`). It never reads a byte of a connection: once handed over, a call has nothing
to do with it. A worker is the same program as with one process, with its own event loop, but for where its connections
come from (`seat.HandedOver`) and whom it tells how many it has (`seat.Seat`).

Why not leave the choice to the kernel? `SO_REUSEPORT` hashes addresses, and workers that accept on one socket race for
it: both are even over many short requests. Calls are few and last for minutes; then one worker gets twice as many as
another, and is full, or late, while the other has room.
"""
