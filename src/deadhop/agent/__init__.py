"""The policy agent: egress policy by DNS names for network namespaces on a node without Cilium.

``fqdn/`` decides, this room acts. ``policyfile`` and ``compile`` turn policies into reaches and rules, ``ruleset`` into
one nftables table; ``udp`` and ``tcp`` are the DNS proxy's sockets, ``pending`` what waits on them, ``proxy`` judges
queries and learns from answers; ``core`` keeps the FQDN core, the kernel's sets (``learned``) and the journal in step;
``agent`` puts it together.
An answer is released when the journal has it and the kernel lets its addresses through.
"""
