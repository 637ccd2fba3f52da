"""The `pixcrawler` command, one module for what a group of commands does; `pixcrawler/cli.py` names them."""
