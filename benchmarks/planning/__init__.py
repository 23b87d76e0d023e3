"""What has to be done: a configuration and a catalogue in, units with keys out. Pure."""
