"""The denoising loop."""

from redvtp.generation.decoding import Decoding
from redvtp.generation.history import Recorder, Result
from redvtp.generation.settings import Settings

__all__ = ["Decoding", "Recorder", "Result", "Settings"]
