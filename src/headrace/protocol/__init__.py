"""The Open Inference Protocol between the wire and messages: no sockets, no asyncio.

envelope.py reads names, shapes and parameters and finds where the data lies; plan.py holds that against a model's spec,
request.py decodes it; tensors.py is JSON data ↔ bytes, arrays.py nested lists → arrays; response.py writes answers;
transcode.py turns large JSON bodies into binary ones and back, for a worker to do; metadata.py describes models; status.py
is the table of codes.
"""
