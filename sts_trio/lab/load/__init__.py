"""The load harness: many calls at once through a connector, with Core on one side and EVI on the other.

Three processes, none of them the server under test: the *callers* (all of Core's ends), the *agents* (a light EVI: all
of the provider's ends), and the one that started them, which measures CPU and memory and shows it all. Every frame
carries a stamp, upstream in its samples (`stamps`), downstream as levels that a resampler leaves intact (`levels`), so
that each is found again at the far end, whatever the connector does in between. Clocks are CLOCK_MONOTONIC, which is
one for the whole machine.

It has to be cheap, for it shares the machine with what it measures: a process has one task that reads all its sockets
through an epoll of its own (`loop`), one that writes by the clock, and a WebSocket framing of its own (`frames`).
"""
