"""How fast LoopOS is on this machine, beside the machine's own limits and beside other engines: ``loopos bench``.

Every engine runs in a process of its own (:mod:`loopos.bench.peers`) and they take turns; nothing here is imported by
the rest of the package. Needs nothing but LoopOS; engines that are not installed are named as absent.
"""
