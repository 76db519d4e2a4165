"""`GET /metrics` as Prometheus asks for it: a real socket, a real clock."""

from __future__ import annotations

import time
from urllib.request import urlopen

import trio
from prometheus_client.parser import text_string_to_metric_families

from sts_trio.call.handler import Registry
from sts_trio.call.meter import WEBSOCKET, CallCounts, CallRecord
from sts_trio.metrics import Metrics
from tests.call.stage import ONE
from tests.e2e.evi import open_core, open_evi, until
from tests.e2e.service import FRAME, INIT, hear, service


async def scrape(url: str) -> tuple[str, dict[str, float]]:
    """Return the content type, and samples by name and the labels' values."""

    def ask() -> tuple[str, str]:
        with urlopen(url, timeout=5) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    content_type, text = await trio.to_thread.run_sync(ask)
    return content_type, {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@ONE
async def test_a_scrape_over_a_real_socket_tells_what_a_call_did(provider: str) -> None:
    async with open_evi(provider) as evi, service(evi.url, provider) as url:
        target = url.replace("ws://", "http://") + "/metrics"
        async with open_core(url) as core:
            await core.send_message(INIT)
            await until(lambda: evi.chats)
            for _ in range(50):
                await core.send_message(FRAME)
            await until(lambda: len(evi.received) == 50 * 320)
            await evi.user_says(0, "Hi")
            await evi.speak(0, 0.5, "r")
            await hear(core, "audio")
            await evi.interrupt(0)
            await hear(core, "interruption")
            await trio.sleep(0.1)  # the lag is measured twenty times a second
            content_type, live = await scrape(target)
        await until(lambda: not evi.chats)
        await trio.sleep(0.3)
        _, after = await scrape(target)
    assert content_type.startswith("text/plain")
    assert live["sts_calls_active websocket"] == 1
    assert live["sts_turn_latency_seconds_count"] == live["sts_barge_in_stop_seconds_count"] == 1
    assert live["sts_barge_in_stop_seconds_sum"] < 0.03
    assert live["sts_audio_seconds_total to_provider"] == 1
    assert after["sts_calls_active websocket"] == 0
    assert after["sts_calls_ended_total caller_hung_up websocket"] == 1
    assert after["sts_audio_seconds_total to_provider"] == 1
    assert after["sts_stale_audio_frames_total"] == 0
    assert after["sts_event_loop_lag_seconds_count"] > live["sts_event_loop_lag_seconds_count"] > 0
    assert after["process_open_fds"] > 3
    assert after["sts_tasks"] > 3


async def test_a_scrape_with_200_live_calls_holds_nobody_up() -> None:
    """It runs between two frames: a frame is due every 20 ms."""
    metrics = Metrics(Registry(), "0")
    for _ in range(200):
        metrics.call_began(CallRecord(WEBSOCKET, CallCounts(upstream_seconds=60.02, interruptions=3)))
    took = []
    for _ in range(20):
        began = time.perf_counter()
        text, _ = metrics.scrape()
        took.append(time.perf_counter() - began)
    print(f"scrape: median {sorted(took)[10] * 1000:.1f} ms, {len(text)} bytes")
    assert b'sts_audio_seconds_total{direction="to_provider"} 12004.0' in text
    assert sorted(took)[10] < 0.02
