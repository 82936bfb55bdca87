"""The DNS tools that a person runs: a server for reproductions, a check of servers, a warmer of caches, a log reader.

``zone`` answers from a zone file, ``faults`` bends the answers, ``listen`` puts them on sockets; ``probe`` asks one
server once, ``findings`` compares what came back; ``warm`` says when to ask again; ``toplog`` counts log lines.
"""
