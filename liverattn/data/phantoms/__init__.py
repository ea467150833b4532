"""Ultrasound-like liver phantoms with labeled lesions, the embedded stand-in for clinical images."""

from liverattn.data.phantoms.lesions import KINDS
from liverattn.data.phantoms.render import Phantom, render_phantom

__all__ = ["KINDS", "Phantom", "render_phantom"]
