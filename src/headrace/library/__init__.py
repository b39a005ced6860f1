"""The server's batching without a server, for people with a function.

batched.py is the decorator and what it makes of a function, host.py a pipeline in front of a function on one event loop.
"""
