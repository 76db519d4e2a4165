"""Stamps by which each frame is found again at the far end: `pcm` and `g711` on the way up, `down` on the way down."""
