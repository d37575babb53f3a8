"""Every system of a university course in computer vision, on Keras 3.

Importing this package has no side effect: areas (`mlcvtf.ops`, `mlcvtf.detection`,
`mlcvtf.embedding` ...) are imported by name when they are used.
"""

__version__ = "0.1.0"
