"""From a skill to what answers it: the transforms around a model, one stage after the other."""
