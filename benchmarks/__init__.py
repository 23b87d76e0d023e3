"""The harness and the `perfbench` command."""
