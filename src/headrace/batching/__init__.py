"""Who travels together.

ticket.py is a request's place in the queue, queue.py keeps tickets by deadline and group, policy.py decides how many go
now, latency.py predicts how long they will run, assemble.py lays a batch into the arena and takes its outputs apart.
"""
