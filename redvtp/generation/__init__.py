"""The denoising loop."""

from redvtp.generation.decoding import Decoding, Result
from redvtp.generation.history import Recorder
from redvtp.generation.settings import Settings

__all__ = ["Decoding", "Recorder", "Result", "Settings"]
