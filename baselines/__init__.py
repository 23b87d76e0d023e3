"""The methods that Perfusion is compared with, one file each; what they share is in
perfusion_core.
"""
