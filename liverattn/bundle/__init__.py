"""CONTRACT for use elsewhere: trained networks with everything that it takes to use them, in a folder or one zip.

========================  ===========================================================================================
``bundle.json``           what the networks are, how images are prepared, members, operating points, metrics
                          (:class:`Contents`)
``networks/SHA.safetensors``  weights; copies that are the same are stored once, named by the SHA-256 of the file
``README.md``             model card
``SHA256SUMS``            of all other files; ``sha256sum -c`` reads it too
========================  ===========================================================================================

Nothing in a bundle can execute code: it holds text and plain tensors. A file that is changed, added or missing is
refused before anything is used. Reading needs neither Hydra nor Lightning nor MLflow nor the training data.
"""
