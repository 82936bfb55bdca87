"""Records to state: which links form a pair, which namespace a listing belongs to, which run a query belongs to.

Functions here are pure and take records; they say what they do not know. ``epochs`` tells apart the states of a
world that changes inside one document.
"""
