"""For tools that still call setup.py; everything is said in pyproject.toml."""
__import__("setuptools").setup()
