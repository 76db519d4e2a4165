"""The load harness: many calls at once through a connector, with Core on one side and the provider on the other.

Three processes, none of them the server under test: the *callers* (all of Core's ends), the *agents* (all of the
provider's ends, a `LightProvider` each), and the one that started them, which measures CPU and memory and shows the
results. Every frame carries a stamp: upstream in its samples (`stamps.pcm`, `stamps.g711`), downstream as levels that a
resampler leaves intact (`stamps.down`), so that it is found again at the far end, whatever the connector does in
between. Clocks are CLOCK_MONOTONIC, which is one for the whole machine.

It has to be cheap, for it shares the machine with what it measures: a process reads all its sockets and runs all its
timers in one task (`socket_loop`), with a WebSocket framing of the lab's own (`sts_trio.lab.websocket`).
"""
