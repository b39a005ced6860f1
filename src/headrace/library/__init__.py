"""The server's batching and its breaker without a server, for people with a function.

batched.py is the decorator and what it makes of a function, host.py a pipeline in front of a function on one event loop.
breaker.py is the other decorator, trial.py what is tried together, guardable.py what it cannot guard.
"""
