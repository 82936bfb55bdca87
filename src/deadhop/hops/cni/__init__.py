"""What network plugins do to a packet between the kernel's own steps: as tables, with a source for each row.

:mod:`datapaths` says which plugin a namespace runs and what that means for a packet; :mod:`redirects` where a program
takes a packet that no route sends there.
"""

from deadhop.hops.cni.datapaths import DATAPATHS, Datapath, datapaths
from deadhop.hops.cni.redirects import REDIRECTS, Redirect, redirect

__all__ = ["DATAPATHS", "REDIRECTS", "Datapath", "Redirect", "datapaths", "redirect"]
