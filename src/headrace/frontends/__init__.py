"""Sockets: http.py is the lean path of infer requests, rest.py everything else and the reference for infer.

cycle.py is one request on the lean path, headers.py what an infer request's headers mean, and desk.py what both paths
hand a request to: from its body to its answer's bytes.
"""
