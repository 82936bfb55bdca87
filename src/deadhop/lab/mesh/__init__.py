"""The oracle of the mesh model: real Envoys on loopback, configured from the model's own derivation.

``verify`` sends the same requests through both and reports where they differ. Nothing leaves loopback, only
processes started here are ended, and everything is removed when the run ends.
"""
