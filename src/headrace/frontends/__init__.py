"""Sockets: http.py is the lean path of infer requests, rest.py everything else and the reference for infer.

desk.py is what both hand an infer request to: from its body to its answer's bytes.
"""
