"""The Linux hop: what the kernel of one node or pod does with a packet.

:func:`~deadhop.hops.linux.walk.walk_packet` is the door. Behind it, one module per stage of the kernel's own way:
``input`` and ``input6`` (receipt to routing decision), ``source_validation`` (rp_filter and martians), ``forward``,
``output``, ``neighbour`` (the last step), ``icmp`` (errors and their way back), ``netfilter`` (the hooks between).
``rules``, ``fib`` and ``fib6`` are the routing tables; ``world`` is a namespace compiled for all of them.

Checked against the running kernel by ``deadhop.lab.verify``; see docs/lab_notes/linux-forwarding.md.
"""
