"""Make the dashboards beside this file: `python deploy/grafana/make.py`.

A panel is a line or two here: its title, what it shows, and its queries. Every series gets the job and the instances
that the dashboard's variables name. A test compares the files with this, and finds the series that no panel shows.
"""

from __future__ import annotations

import json
from pathlib import Path

from panels import bars, board, growth, lines, quantile, row, stat, steps, words

FAILED = 'sts_calls_ended_total{cause=~"provider_failed|internal_error|no_init"}'
FEW = steps((1, "orange"), (5, "red"))
SERVICE = [
    stat("Instances up", "How many answer Prometheus.", "sum(up)", steps=steps((1, "green"), below="red")),
    stat(
        "Takes calls",
        "Whether any instance would take a call now. No: all are draining, full or overloaded.",
        "max(sts_accepting_calls)",
        mappings=words("no", "yes", good=1),
    ),
    stat("Calls now", "Calls that are running.", "sum(sts_calls_active)"),
    stat(
        "Breaker",
        "Open: the provider refused call after call, and new callers are told so at once.",
        "max(sts_breaker_open)",
        mappings=words("closed", "open", good=0),
    ),
    stat(
        "Calls that failed, last hour",
        "Ended for want of the agent (provider_failed), of Core's first message (no_init), or by a fault of ours.",
        f"sum(increase({FAILED}[1h]))",
        decimals=0,
        steps=FEW,
    ),
    stat(
        "Calls that were refused, last hour",
        "Told 503 at the door: full, overloaded or draining.",
        "sum(increase(sts_calls_refused_total[1h]))",
        decimals=0,
        steps=FEW,
    ),
    row("Room"),
    lines(
        "Calls by instance",
        "Calls that are running, and how many there may be (MAX_CALLS; 0 is no limit).",
        {
            "{{instance}}": "sum by (instance) (sts_calls_active)",
            "limit of {{instance}}": "sum by (instance) (sts_calls_limit)",
        },
    ),
    bars(
        "Refused, by reason",
        "Calls that were told 503, a minute.",
        {"{{reason}}": growth("sts_calls_refused_total", "reason")},
    ),
    bars(
        "Turned away at the door, by reason",
        "No token, a foreign page, broken HTTP, floods, requests that are no call.",
        {"{{reason}}": growth("sts_refused_total", "reason") + " > 0"},
    ),
    row("The machine"),
    lines(
        "How late the event loop is",
        "A frame is due every 20 ms: above that callers hear gaps. SHED_LAG_MS refuses new calls.",
        {
            "99 % of {{instance}}": quantile(0.99, "sts_event_loop_lag_seconds", "instance, le"),
            "50 % of {{instance}}": quantile(0.5, "sts_event_loop_lag_seconds", "instance, le"),
        },
        unit="s",
    ),
    lines(
        "CPU",
        "Cores in use; one process uses one core at most (WORKERS).",
        {"{{instance}} {{worker}}": "sum by (instance, worker) (rate(process_cpu_seconds_total[$__rate_interval]))"},
    ),
    lines(
        "Memory",
        "What is resident.",
        {"{{instance}} {{worker}}": "sum by (instance, worker) (process_resident_memory_bytes)"},
        unit="bytes",
    ),
    lines(
        "Open files",
        "File descriptors: two or more a call. Half of the limit is for connections.",
        {
            "{{instance}} {{worker}}": "sum by (instance, worker) (process_open_fds)",
            "limit of {{instance}}": "min by (instance) (process_max_fds)",
        },
    ),
    lines(
        "Tasks",
        "Tasks of the event loop. They follow the calls; a number that grows without them is a leak.",
        {"{{instance}}": "sum by (instance) (sts_tasks)"},
    ),
    bars(
        "Log lines that could not be written",
        "A full disk, a reader that has stopped.",
        {"{{instance}}": growth("sts_log_lines_dropped_total", "instance")},
    ),
    row("Workers (with WORKERS above 1)"),
    lines(
        "Workers",
        "Processes that are there, and those that did not answer the scrape.",
        {
            "{{instance}}": "sum by (instance) (sts_workers)",
            "not heard of {{instance}}": "sum by (instance) (sts_workers_unheard)",
        },
    ),
    bars(
        "Workers that died",
        "Each takes its calls with it; another is started.",
        {"{{instance}}": growth("sts_worker_restarts_total", "instance")},
    ),
    lines(
        "Versions",
        "How many instances run which version.",
        {"{{version}}": "count by (version) (sts_build_info)"},
    ),
    row("The provider"),
    bars(
        "Sessions opened, by result",
        "Tries to open a session: for a new call, after a break, or before its limit.",
        {"{{result}}": growth("sts_provider_connects_total", "result") + " > 0"},
    ),
    lines(
        "How long opening takes",
        "From the decision until the agent can talk; successful tries only.",
        {"90 %, {{kind}}": quantile(0.9, "sts_provider_connect_seconds", "kind, le")},
        unit="s",
    ),
    bars(
        "What the provider sent and we could not use",
        "Odd messages, which are skipped; and errors that it reported.",
        {
            "{{kind}}": growth("sts_provider_not_understood_total", "kind") + " > 0",
            "reported errors": growth("sts_provider_faults_total") + " > 0",
        },
    ),
    bars(
        "Tokens",
        "What answers cost; cached ones cost less.",
        {"{{direction}} {{kind}}": growth("sts_tokens_total", "direction, kind") + " > 0"},
    ),
    bars(
        "Answers asked for again",
        "Nothing of them was heard: they were empty, in text, filtered, cut short, failed, or never came.",
        {"{{kind}}": growth("sts_provider_retries_total", "kind") + " > 0"},
    ),
    lines(
        "What the account may still use",
        "As the provider said last.",
        {
            "{{limit}}": "min by (limit) (sts_rate_limit_remaining)",
            "of {{limit}}": "max by (limit) (sts_rate_limit)",
        },
    ),
]
CALLS = [
    stat("Calls, last hour", "Calls that began.", "sum(increase(sts_calls_started_total[1h]))", decimals=0),
    stat(
        "Calls that failed",
        "Their share of the calls that ended in the last hour: provider_failed, no_init, internal_error.",
        f"sum(increase({FAILED}[1h])) / (sum(increase(sts_calls_ended_total[1h])) > 0)",
        unit="percentunit",
        decimals=1,
        steps=steps((0.02, "orange"), (0.1, "red")),
    ),
    stat(
        "An answer takes",
        "Half of the last hour's came sooner after the end of the caller's turn, as the provider tells it. Callers "
        "feel about half a second more.",
        quantile(0.5, "sts_turn_latency_seconds", over="1h"),
        unit="s",
        steps=steps((1.5, "orange"), (3, "red")),
    ),
    stat(
        "Turns without an answer, last hour",
        "The agent had not begun to answer after ANSWER_SECONDS.",
        "sum(increase(sts_late_answers_total[1h]))",
        decimals=0,
        steps=FEW,
    ),
    stat(
        "A call lasts", "Half of the last day's were shorter.", quantile(0.5, "sts_call_seconds", over="1d"), unit="s"
    ),
    stat(
        "Stale frames",
        "Frames of an interrupted reply that were sent after the barge-in. Must be 0.",
        "sum(sts_stale_audio_frames_total)",
        decimals=0,
        steps=steps((1, "red")),
    ),
    row("How calls begin and end"),
    lines(
        "Calls that are running",
        "By the way that Core's side is connected.",
        {"{{leg}}": "sum by (leg) (sts_calls_active)"},
    ),
    bars("Calls that began", "A minute, by leg.", {"{{leg}}": growth("sts_calls_started_total", "leg")}),
    bars(
        "Why calls ended",
        "A minute, by cause; the log line `call ended` has the same word.",
        {"{{cause}}": growth("sts_calls_ended_total", "cause") + " > 0"},
    ),
    row("How a conversation feels"),
    lines(
        "Answers",
        "From the end of the caller's turn (as the provider tells it) until the answer's first audio is sent.",
        {"90 %": quantile(0.9, "sts_turn_latency_seconds"), "50 %": quantile(0.5, "sts_turn_latency_seconds")},
        unit="s",
        interval="5m",
    ),
    bars(
        "Turns, and those without an answer",
        "Finished turns a minute, and turns of callers that had no answer after ANSWER_SECONDS.",
        {"{{role}}": growth("sts_turns_total", "role"), "no answer": growth("sts_late_answers_total")},
    ),
    lines(
        "How soon the agent is quiet",
        "From the provider's word of a barge-in until Core is told.",
        {"99 %": quantile(0.99, "sts_barge_in_stop_seconds")},
        unit="s",
        interval="5m",
    ),
    bars(
        "Barge-ins and keys",
        "Agents that were interrupted; keys that callers pressed.",
        {"barge-ins": growth("sts_interruptions_total"), "keys": growth("sts_keys_total")},
    ),
    bars(
        "What the caller felt",
        "Calls by the strongest emotion over all of them, where the provider tells of any.",
        {
            "{{emotion}}": growth("sts_call_moods_total", "emotion") + " > 0",
            "a rule fired": growth("sts_emotion_rules_fired_total") + " > 0",
        },
    ),
    bars(
        "Sessions that were replaced in mid-call",
        "resume: after a break, which the caller may have heard. renewal: before its limit.",
        {"{{kind}}": growth("sts_sessions_replaced_total", "kind")},
    ),
    row("Tools"),
    bars(
        "Runs, by tool and result",
        "stopped: the caller hung up, or spoke on.",
        {"{{tool}} {{result}}": growth("sts_tool_runs_total", "tool, result") + " > 0"},
    ),
    lines(
        "How long tools run",
        "TOOL_SECONDS is the limit.",
        {"90 %": quantile(0.9, "sts_tool_seconds"), "50 %": quantile(0.5, "sts_tool_seconds")},
        unit="s",
        interval="5m",
    ),
    bars(
        "What agents asked for",
        "Tools that agents asked for, known or not.",
        {"asked for": growth("sts_tool_calls_total")},
    ),
    row("Audio"),
    lines(
        "Seconds of speech a second",
        "Upwards near the number of calls; agents are silent at times.",
        {
            "{{direction}}": "sum by (direction) (rate(sts_audio_seconds_total[$__rate_interval]))",
            "from the agent": "sum(rate(sts_agent_audio_received_seconds_total[$__rate_interval]))",
            "to the provider again": "sum(rate(sts_audio_sent_again_seconds_total[$__rate_interval]))",
        },
    ),
    bars(
        "Seconds that were dropped",
        "to_provider: a break; to_core: it does not read; too_fast: a caller sent more than real time.",
        {"{{queue}}": growth("sts_audio_dropped_seconds_total", "queue")},
        unit="s",
    ),
    lines(
        "The most that waited in a call",
        "Of the calls that ended, 95 % had less waiting at any time. To Core, replies wait to be spoken: no fault.",
        {"{{queue}}": quantile(0.95, "sts_queue_peak_seconds", "queue, le")},
        unit="s",
        interval="5m",
    ),
    bars(
        "Messages that were dropped, or not understood",
        "To Core, which does not read; from Core; chunks of a reply that came after its barge-in.",
        {
            "dropped": growth("sts_messages_dropped_total"),
            "not understood": growth("sts_not_understood_total"),
            "late chunks": growth("sts_late_chunks_total"),
        },
    ),
    lines(
        "The most messages that waited",
        "Of the calls that ended, 95 % had fewer waiting for Core at any time.",
        {"95 %": quantile(0.95, "sts_queue_peak_messages")},
        interval="5m",
    ),
    lines(
        "Lengths of calls",
        "Of the calls that ended: how long half of them were, and 95 %.",
        {"95 %": quantile(0.95, "sts_call_seconds"), "50 %": quantile(0.5, "sts_call_seconds")},
        unit="s",
        interval="5m",
    ),
]
BOARDS = {
    "service": ("Is it there, has it room, and is the machine well?", SERVICE),
    "calls": ("How calls begin, feel and end.", CALLS),
}


def dashboards() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"{name}.json": json.dumps(
            board(name, shows, panels, [each for each in BOARDS if each != name]), indent=1, ensure_ascii=False
        )
        + "\n"
        for name, (shows, panels) in BOARDS.items()
    }


if __name__ == "__main__":
    for file, text in dashboards().items():
        (Path(__file__).parent / file).write_text(text, encoding="utf-8")
