"""The reverse proxy that gets Host right.

``config`` reads what a person wrote; ``table`` finds the route of a request; ``inbound`` checks a request's head and
``outbound`` writes the one that goes out (both pure); ``client`` and ``upstream`` are the two sides of an exchange on
asyncio, with llhttp (the package httptools) as the parser of both; ``pool`` keeps connections; ``server`` listens, drains
and ends. ``check`` asks the mesh model where each route's Host goes.
"""
