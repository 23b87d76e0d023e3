"""What has to be done: a configuration and a catalogue in, units with keys out.

Reading order: config (what was asked), points (operating points), methods with method_text (the
methods by name, and what their files say) and method_families (their groups and citations),
ablations, kinds (what a backbone is, by its configuration), backbones (the models by name), units
(what a plan consists of), plan (the units of a run) with drift_plan (those beside the protocol).
Nothing here loads a model.
"""
