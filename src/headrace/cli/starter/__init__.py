"""The folder that `headrace demo` copies and serves: skills that need nothing but Python. Nobody imports it."""
