"""The Service hop: kinds of Service, their ports and endpoints, and what a ClusterIP translates to."""
