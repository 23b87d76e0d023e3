"""The methods that Perfusion is compared with, one file each."""
