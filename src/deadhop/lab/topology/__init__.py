"""Topologies made real in network namespaces, and played.

``owner`` names and removes what belongs to one run, ``made`` holds it, ``build`` turns a topology into devices,
addresses and rules, ``serve`` starts its services, ``play`` walks its steps and ``story`` says what happened.
"""
