"""PixCrawler's client: the library, the `pixcrawler` command and the embedded stack.

Talks to a gateway over HTTP and imports no server code.
"""
