"""sts_trio: the speech-to-speech connector between DSAI Core and a voice agent."""
