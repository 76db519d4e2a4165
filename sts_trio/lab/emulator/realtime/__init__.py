"""The Realtime protocol (docs/protocols/realtime.md), as OpenAI and xAI have it."""
