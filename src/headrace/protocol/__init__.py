"""The Open Inference Protocol between the wire and messages: no sockets, no asyncio.

envelope.py reads names, shapes and parameters and finds where the data lies; request.py holds that against a model's
spec and decodes it; tensors.py is JSON data ↔ bytes; response.py writes answers; transcode.py turns large JSON bodies
into binary ones and back, for a worker to do; metadata.py and config.py describe models; status.py is the table of codes.
"""
