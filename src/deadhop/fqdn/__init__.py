"""Cilium's toFQDNs machinery without I/O: who may ask for which name, what an answer teaches, which address that opens.

Read in this order: ``names`` and ``patterns`` (what matches), ``selectors`` and ``dns_rules`` (what a policy says),
``rule_validation`` (what is refused), ``admission`` (what the DNS proxy lets through), ``answers`` (what a response
teaches), ``cache``, ``zombies`` and ``gc`` (how long that lasts), ``identity`` (how a name becomes an allowed address),
``restore`` (what survives an agent restart), ``policy`` and ``node`` (all of it together on one node). ``formats`` and
``flows`` print as Cilium prints, ``gotext`` reads and quotes as Go does.

Time is an argument: seconds since the Unix epoch as ``float``. The Cilium version is an argument too
(:class:`~deadhop.fqdn.options.Version`), because matching, defaults and liveness changed between 1.11 and 1.20.
"""
