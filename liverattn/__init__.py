"""liverattn: supervised attention for focal liver lesions in ultrasound (Schmauch et al. 2019). Research use only."""

__version__ = "0.1.0"
