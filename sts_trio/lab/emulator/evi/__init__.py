"""EVI (docs/protocols/evi.md): what is of this protocol only. The parrot speaks in its messages in any case."""
