"""The live kernel: the drop watch and the function trace.

:mod:`btf` reads the kernel's types, :mod:`assembler` writes BPF instructions, :mod:`syscalls` hands them over with
bpf(2), :mod:`ring` reads what comes back. :mod:`capture` is the part of every program that turns an skb into an
:mod:`event`; :mod:`filter` is the language that decides which, compiled into the same program. :mod:`probe` is
what :mod:`drops`, attached to ``skb:kfree_skb``, and :mod:`trace`, attached to the functions that an skb passes, share.
Nothing is installed and no compiler is needed.
"""
