"""The protocol code of speech-to-speech (huggingface/speech-to-speech, 1.1.0) as a server, its models a parrot.

Run by an interpreter that has the package; its models' packages and their weights are not needed:
`pip install --no-deps speech-to-speech==1.1.0`, and `fastapi uvicorn websockets openai==2.28.0 numpy scipy`. It
prints the port that it listens on. The parrot hears loud audio, and answers what it was asked last: `call NAME` asks
for a tool, all else is said again as a tone.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from array import array
from queue import Queue
from typing import Any

import uvicorn
from openai.types.realtime import RealtimeConversationItemFunctionCall
from openai.types.responses.response_function_tool_call import ResponseFunctionToolCall
from speech_to_speech.api.openai_realtime.pipeline_unit import PipelineUnit
from speech_to_speech.api.openai_realtime.service import RealtimeService
from speech_to_speech.api.openai_realtime.websocket_router import create_app
from speech_to_speech.LLM.chat import add_supported_item
from speech_to_speech.pipeline.cancel_scope import CancelScope
from speech_to_speech.pipeline.control import SESSION_END, is_control_message
from speech_to_speech.pipeline.events import (
    AssistantOutputEvent,
    AssistantResponseDoneEvent,
    SpeechStartedEvent,
    SpeechStoppedEvent,
    TranscriptionCompletedEvent,
)
from speech_to_speech.pipeline.messages import AUDIO_RESPONSE_DONE, AudioOutput

RATE, CHUNK = 16_000, 512  # of its pipeline, in Hz and samples
LOUD = 1000
ENDS_AFTER = 0.5  # seconds of silence
SPOKEN = 2.0  # seconds an answer
TONE = array("h", (round(12_000 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(CHUNK))).tobytes()


class Parrot:
    """Its ears and its mouth, each a thread, as the package's own stages are."""

    def __init__(self, unit: Any) -> None:
        self.unit = unit
        self.turns = 0
        for work in (self.listen, self.speak):
            threading.Thread(target=work, daemon=True).start()

    def listen(self) -> None:
        speaking, heard, quiet = False, 0, 0.0
        events = self.unit.text_output_queue
        while True:
            item = self.unit.input_queue.get()
            if is_control_message(item, SESSION_END.kind):
                speaking = False
                self.unit.output_queue.put(item)
                continue
            samples = array("h", bytes(item[0] if isinstance(item, tuple) else item))
            heard += len(samples) * 1000 // RATE
            loud = max(map(abs, samples), default=0) > LOUD
            turn = {"turn_id": f"turn_{self.turns}", "turn_revision": 0}
            if loud and not speaking:
                self.turns += 1
                turn = {"turn_id": f"turn_{self.turns}", "turn_revision": 0}
                speaking = True
                events.put(SpeechStartedEvent(audio_start_ms=heard, **turn))
            quiet = 0.0 if loud else quiet + len(samples) / RATE
            if speaking and quiet >= ENDS_AFTER:
                speaking = False
                events.put(SpeechStoppedEvent(audio_end_ms=heard, duration_s=1.0, **turn))
                events.put(TranscriptionCompletedEvent(transcript="What I said.", **turn))

    def speak(self) -> None:
        while True:
            asked = self.unit.text_prompt_queue.get()
            if not hasattr(asked, "response_key"):
                continue
            generation, key = self.unit.cancel_scope.generation, asked.response_key
            common = {"response_key": key, "cancel_generation": generation}
            turn = {"turn_id": asked.turn_id, "turn_revision": asked.turn_revision}
            out = self.unit.output_queue
            words = self.words(asked)
            if words.startswith("call "):
                tool = ResponseFunctionToolCall(
                    type="function_call", call_id=f"call_{key[:8]}", name=words[5:].strip(), arguments="{}"
                )
                # The package's language models write down what they have asked for.
                called = RealtimeConversationItemFunctionCall(
                    type="function_call", call_id=tool.call_id, name=tool.name, arguments="{}"
                )
                add_supported_item(asked.runtime_config.chat, called)
                out.put(AssistantOutputEvent(tools=[tool], **turn, **common))
            else:
                out.put(AssistantOutputEvent(text=words, **turn, **common))
                for _ in range(round(SPOKEN * RATE / CHUNK)):
                    if self.unit.cancel_scope.is_stale(generation):
                        break
                    out.put(AudioOutput(audio=TONE, **common))
                    time.sleep(CHUNK / RATE / 4)
            out.put(AssistantResponseDoneEvent(**turn, **common))
            out.put(AudioOutput(audio=AUDIO_RESPONSE_DONE, **common))

    def words(self, asked: Any) -> str:
        """What it was told to say, or the last text of the conversation."""
        told = getattr(asked.response, "instructions", None)
        if told:
            return str(told)[-60:]
        for item in reversed(asked.runtime_config.chat.buffer):
            if getattr(item, "type", "") == "function_call_output":
                return str(item.output)
            for part in getattr(item, "content", None) or ():
                if text := getattr(part, "text", None) or getattr(part, "transcript", None):
                    return str(text)
        return "Nothing."


def main() -> None:
    prompts: Queue[Any] = Queue()
    listening = threading.Event()
    unit = PipelineUnit(
        index=0,
        service=RealtimeService(text_prompt_queue=prompts, should_listen=listening),
        cancel_scope=CancelScope(),
        should_listen=listening,
        response_playing=threading.Event(),
        input_queue=Queue(),
        output_queue=Queue(),
        text_output_queue=Queue(),
        text_prompt_queue=prompts,
        handlers=[],
    )
    Parrot(unit)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(create_app(pool=[unit], stop_event=threading.Event()), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
