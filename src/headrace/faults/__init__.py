"""What becomes of runs that fail, and of those who asked for them: a fault is charged to whoever caused it.

breaker.py says whether a variant may be run at all, inquiry.py finds the request that makes a batch fail, quarantine.py
remembers such requests for a while. All three are pure: what happened and the time in, decisions out.
"""
