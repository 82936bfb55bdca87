"""Live evidence: this node, and every namespace on it that can be entered."""
