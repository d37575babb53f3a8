"""Body parts and joints from one depth picture, by a forest on synthetic data.

Shotton et al., 2011, "Real-Time Human Pose Recognition in Parts from Single Depth
Images", CVPR, https://doi.org/10.1109/CVPR.2011.5995316.
"""
