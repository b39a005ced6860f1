"""Sockets: http.py is the lean path of infer requests and cycle.py one request on it; rest.py is everything else, and the
reference for infer.

headers.py reads what an infer request's headers mean; desk.py is what both hand it to: from its body to its answer's bytes.
"""
