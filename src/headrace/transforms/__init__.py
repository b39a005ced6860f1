"""From what callers send to tensors, and from tensors to answers: sentences, photos, bytes, records, labels, embeddings.

Pure numpy and well-kept libraries; knows neither sockets nor queues. What is cheap runs in the model's worker around its
backend; images and code of users run in workers of their own.
"""
