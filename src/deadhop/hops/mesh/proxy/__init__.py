"""A proxy's own configuration in the walk: what it runs decides, before what istiod would derive from the objects."""
