"""The only threads and processes on the path.

supervisor.py starts a worker process and watches it; channel.py is the gateway's end of one instance in it;
wire.py are the messages between them, arena.py the shared memory that holds the tensors; worker.py is the child's
main; probe.py finds out at load what a model can do and profiles.py remembers it; golden.py tries it out again later,
finite.py looks for NaN; trace.py is what a process leaves of itself when it crashes, steps.py the faults that tests have
it suffer; linux.py has what only Linux has.
"""
