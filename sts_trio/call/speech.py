"""What the agent says in a call: its voice into the playout, and its turns told once the caller has heard them. Pure.

A provider generates faster than real time, so a turn is often complete long before it has been heard. Its transcript
waits until then: at a barge-in we know how much of each turn reached the caller, and say so.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import BYTES_PER_SECOND
from sts_trio.audio.resample import TelephoneResampler
from sts_trio.call.actions import Deadline
from sts_trio.call.transcripts import Said, Transcripts
from sts_trio.core.wire import Transcript

if TYPE_CHECKING:
    from sts_trio.audio.pcm import Wav
    from sts_trio.call.actions import Deadlines
    from sts_trio.call.playout import Playout


_MOST_SEGMENTS = 200  # of one turn, kept for its transcript
_MOST_CHARACTERS = 10_000  # of one turn; some ten minutes of speech, which is what may wait to be heard
_LONGEST_ID = 128  # of a reply, as far as it is remembered; EVI's have 32 characters
# How long after a barge-in audio of the interrupted reply may still be on its way, with the caller's words before it.
_LATE_SECONDS = 1.0
_MOST_REPLIES = 64  # ids remembered, to tell late audio of an interrupted reply from new audio


class AgentTurn:
    """The agent's current turn. It may hold several replies: a provider gives each segment an id of its own."""

    def __init__(self) -> None:
        self._voice: TelephoneResampler | None = None  # None: nothing has been heard since the last end
        self._segments: list[str] = []
        self._room = _MOST_CHARACTERS
        self._replies: deque[str] = deque(maxlen=_MOST_REPLIES)
        self._interrupted: deque[str] = deque(maxlen=_MOST_REPLIES)
        self._late_until = -inf  # audio of an interrupted reply may still come
        self._caller_spoke = False  # since the barge-in

    def knows(self, reply: str) -> bool:
        """Whether this is a reply that has begun before."""
        return reply[:_LONGEST_ID] in self._replies

    def admits(self, reply: str, now: float, *, words: bool = False) -> bool:
        """Whether this reply is said now, and not left over from before a barge-in. Without an id it always is.

        A provider may use an id again: once the caller has spoken, words are new, and audio that is no longer late.
        """
        reply = reply[:_LONGEST_ID]
        if reply in self._interrupted:
            if not self._caller_spoke or (not words and now < self._late_until):
                return False
            self._interrupted.remove(reply)
        if reply and reply not in self._replies:
            self._replies.append(reply)
        return True

    def add_text(self, text: str) -> None:
        """Note a segment of what is said."""
        if len(self._segments) < _MOST_SEGMENTS and self._room > 0:
            self._segments.append(text[: self._room])
            self._room -= len(text)

    def take_text(self) -> str:
        """Return what has been said since the last time."""
        text = " ".join(self._segments)
        self._segments.clear()
        self._room = _MOST_CHARACTERS
        return text

    def speak(self, wav: Wav) -> bytes:
        """Return the telephone PCM that is ready after this chunk."""
        if self._voice is None:
            self._voice = TelephoneResampler()
        return self._voice.feed(wav)

    def finish(self) -> bytes:
        """Return the last of the voice: the turn is over."""
        voice, self._voice = self._voice, None
        return b"" if voice is None else voice.flush()

    def user_turn(self) -> None:
        """The caller has said something: what the agent says now may be new, whatever its id."""
        self._caller_spoke = True

    def cut_off(self, now: float) -> None:
        """Barge-in: forget the voice, and admit no reply of this turn any more."""
        self._voice = None
        self._late_until, self._caller_spoke = now + _LATE_SECONDS, False
        self._interrupted.extend(self._replies)
        self._replies.clear()


# A reply that has been heard, and then gone quiet for so long, is over though its end was never announced: what the
# resampler and the frame cutter still hold is played.
_REPLY_GAP_SECONDS = 1.0
# Words come before their voice, which may take its time; for so long they are not taken for over.
_VOICE_GAP_SECONDS = 5.0
# After a tool call no end of the turn need come (docs/protocols/evi.md 5.4). If no more of the voice has come when all
# but so much has been heard, it is over: early enough for the rest to follow without a hole.
_BEFORE_LAST_SECONDS = 0.1


class AgentSpeech:
    """The agent's side of the conversation, and the transcripts of both."""

    def __init__(self, playout: Playout, deadlines: Deadlines) -> None:
        self.heard_until = -inf  # when the caller will have heard what the agent has said so far
        self.answer_from = 0.0  # where in the playout's audio the agent's voice begins that came after the caller's
        self.overfull = False  # some of what is said has been dropped, and nobody was told yet
        self._deadlines = deadlines
        self._playout = playout
        self._counts = playout.counts
        self._turn = AgentTurn()
        self._begins: float | None = None  # where the turn that is being said begins
        self._transcripts = Transcripts(playout)
        self._told_segments: deque[int] = deque(maxlen=_MOST_REPLIES)  # hashes: some providers say a segment twice
        self._over_at = inf
        self._told_at = inf  # when a transcript is to be told
        self._barge_in_told = False
        self._voiced: str | None = None  # the reply whose voice came last
        self._tool_asked = False  # since the turn began: no end of it need be announced
        self.owes_voice = False  # words have come whose voice has not
        self._lost = 0.0  # seconds of this turn for which there was no room
        self._gap = (0.0, 0.0)  # what was dropped since the last barge-in, in seconds, and up to where in the audio

    @property
    def speaking(self) -> bool:
        """Whether a turn has begun that has not ended."""
        return self._begins is not None

    def audio(self, reply: str, wav: Wav, now: float) -> bool:
        """Take a chunk of the agent's voice. False if it is left over from before a barge-in."""
        if not self._speaks(reply, now):
            self._counts.stale_chunks += 1
            return False
        self._play(self._turn.speak(wav), reply)
        self._voiced, self.owes_voice = reply, False
        self._expect_more(-_BEFORE_LAST_SECONDS if self._tool_asked else _REPLY_GAP_SECONDS, now)
        return True

    def text(self, reply: str, text: str, now: float) -> bool:
        """Take a segment of what the agent says. False if it is left over from before a barge-in."""
        text = text.strip()
        segment = hash((reply, text))
        if not text or (reply and segment in self._told_segments) or not self._speaks(reply, now, words=True):
            return False
        self._told_segments.append(segment)
        self._turn.add_text(text)
        self.owes_voice = self.owes_voice or reply != self._voiced
        self._expect_more(_VOICE_GAP_SECONDS, now)
        return True

    def user_turn(self) -> None:
        """The caller has said something."""
        self._turn.user_turn()
        self.answer_from = self._playout.queued

    def tool_asked(self, now: float, *, last_words: bool = False) -> None:
        """A tool call ends what has been said so far, unless more of it comes before that has been heard.

        With `last_words` a good-bye may be all to come.
        """
        self._tool_asked = self.speaking or last_words
        if self.speaking and not self.owes_voice:
            self._expect_more(-_BEFORE_LAST_SECONDS, now)
            self.expire(now)

    def turn_end(self, now: float) -> None:
        """The turn is complete, if there is one; the caller may still be listening to it."""
        if not self.speaking:
            return
        self._over_at = inf
        if rest := self._turn.finish():
            self._play(rest)
        self._playout.end_reply()
        self._close_turn()
        self._tell_heard(now)

    def barge_in(self, now: float) -> float:
        """Drop what waits, and what may still come, of all replies so far; tell Core once.

        Returns the seconds of the agent's voice that the caller has not heard.
        """
        self._over_at = inf
        self._close_turn()
        self._tool_asked = False
        self._turn.cut_off(now)
        queued = self._playout.queued
        heard = self.answer_from = self._playout.barge_in(now, tell=not self._barge_in_told)
        self._barge_in_told = True
        unheard = queued - heard + (self._gap[0] if heard < self._gap[1] else 0.0)
        self._gap = (0.0, 0.0)
        self._transcripts.settle(heard)
        self._told_at = self._transcripts.tell(now, heard)
        self._wake()
        return unheard

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        if self._over_at <= now:
            self.turn_end(now)
        else:
            self._tell_heard(now)

    def caller_turn(self, text: str, emotions: dict[str, float] | None, now: float, turn: str = "") -> None:
        """The caller's turn is over; without `text` its words may follow."""
        if said := text.strip()[:_MOST_CHARACTERS]:
            self._transcripts.caller(Transcript("user", said, emotions), now, during=self.speaking)
        elif not text:
            self._transcripts.caller_turn(now, turn, during=self.speaking)
        self._told_segments.clear()
        self.user_turn()
        self._tell_heard(now)

    def caller_words(self, text: str, now: float, turn: str = "") -> None:
        """Words of the caller have come after their turn; none, if there will be none."""
        if said := text.strip()[:_MOST_CHARACTERS]:
            self._transcripts.caller_words(Transcript("user", said), now, turn, during=self.speaking)
        elif turn:
            self._transcripts.no_words(turn)
        self._tell_heard(now)

    def finish(self, now: float) -> None:
        """The call is over: tell what has been said, and how much of it was heard."""
        self._close_turn()
        self._transcripts.finish(self._playout.heard(now))
        self._over_at = self._told_at = inf
        self._wake()

    def _speaks(self, reply: str, now: float, *, words: bool = False) -> bool:
        """Whether this is part of what the agent says now; if so, it has taken up speaking again."""
        another = not self._turn.knows(reply)
        if not self._turn.admits(reply, now, words=words):
            return False
        if another and self._transcripts.interjected:  # not what they spoke into, but an answer to it
            self._close_turn()
        self._barge_in_told = False
        if self._begins is None:
            self._begins = self._playout.queued
        return True

    def _play(self, pcm: bytes, reply: str | None = None) -> None:
        dropped = self._playout.push(pcm, reply)
        self._counts.downstream_seconds += len(pcm) / BYTES_PER_SECOND - dropped
        self._counts.downstream_dropped_seconds += dropped
        if dropped:
            self.overfull = self.overfull or not self._lost
            self._lost += dropped
            self._gap = (self._gap[0] + dropped, self._playout.queued)

    def _expect_more(self, gap: float, now: float) -> None:
        self.heard_until = self._playout.played_at(now)
        self._over_at = self.heard_until + gap
        self._wake()

    def _close_turn(self) -> None:
        begins, self._begins = self._begins, None
        self._tool_asked = self._tool_asked and begins is None
        self.owes_voice = False
        said = None
        if text := self._turn.take_text():
            ends = self._playout.queued
            said = Said(text, ends if begins is None else begins, ends, whole=not self._lost)
            self._counts.agent_turns += 1
        self._transcripts.agent(said)
        self._lost = 0.0

    def _tell_heard(self, now: float) -> None:
        self._told_at = self._transcripts.tell(now, self._playout.heard(now))
        self._wake()

    def _wake(self) -> None:
        self._deadlines[Deadline.SPEECH] = min(self._over_at, self._told_at)
